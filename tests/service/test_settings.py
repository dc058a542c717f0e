"""Settings from flags and environment variables; an invalid one is one clear line."""

import pytest

from dynrefer.service.settings import PREFIX, Settings, SettingsError, flag_names, load_settings
from tests.service.update_settings_table import OPERATIONS, with_table


def test_defaults_variables_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().port == 8000
    monkeypatch.setenv("DYNREFER_PORT", "9000")
    monkeypatch.setenv("DYNREFER_BATCH_WAIT_MS", "0.5")
    settings = load_settings({"port": "9001"})
    assert (settings.port, settings.batch_wait_ms) == (9001, 0.5)


def test_every_field_has_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description and field.description.endswith("."), name
    assert set(Settings.model_fields) - set(flag_names()) == {"api_keys"}


def test_the_table_of_settings_is_that_of_the_code() -> None:
    text = OPERATIONS.read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"`{name}`" not in text] == []
    assert with_table(text) == text, "rewrite it: python -m tests.service.update_settings_table"


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("DYNREFER_PROT", "1", "unknown setting DYNREFER_PROT; did you mean DYNREFER_PORT?"),
        ("DYNREFER_XYZZY", "1", "unknown setting DYNREFER_XYZZY."),
        ("DYNREFER_PORT", "70000", "DYNREFER_PORT '70000' is invalid"),
        ("DYNREFER_PORT", "", "DYNREFER_PORT '' is invalid"),
        ("DYNREFER_BATCH_WAIT_MS", "nan", "DYNREFER_BATCH_WAIT_MS 'nan' is invalid"),
        ("DYNREFER_DTYPE", "int8", "'float32' or 'bfloat16'"),
        ("DYNREFER_MAX_QUEUE_REGIONS", "3", "must hold one full request"),
        ("DYNREFER_MAX_KEY_REGIONS", "3", "must hold one full request"),
        ("DYNREFER_MAX_BUFFERED_BYTES", "2000", "must hold one full request"),
        ("DYNREFER_IMAGE_URL_HOSTS", "good.example,127.0.0.1", "'127.0.0.1' is not a host name"),
        ("DYNREFER_IMAGE_URL_HOSTS", "localhost", "'localhost' is not a host name"),
        ("DYNREFER_OTLP_ENDPOINT", "collector", "DYNREFER_OTLP_ENDPOINT 'collector' is invalid"),
        ("DYNREFER_METRICS_PORT", "x", "DYNREFER_METRICS_PORT 'x' is invalid"),
    ],
)
def test_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert part in str(refused.value) and "\n" not in str(refused.value)


def test_flags_are_named_as_typed() -> None:
    with pytest.raises(SettingsError, match="--max-regions '0' is invalid"):
        load_settings({"max_regions": "0"})


def test_keys_are_split_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "API_KEYS", "sesame, tulip,,")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["sesame", "tulip"]
    assert "sesame" not in repr(settings)

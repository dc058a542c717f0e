"""Settings from flags and environment variables; an invalid one is one clear line."""

import pytest

from dynrefer.service.settings import (
    LINK_NAME,
    PLATFORM_PORTS,
    PREFIX,
    Settings,
    SettingsError,
    flag_names,
    link_variables,
    load_settings,
)
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
    secrets = {"api_keys", "admin_keys", "label_studio_token", "converser_url_key"}
    assert set(Settings.model_fields) - set(flag_names()) == secrets


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
        ("DYNREFER_PORT", "udp", "DYNREFER_PORT 'udp' is invalid"),
        ("DYNREFER_PORT", "http://10.0.0.7:8000", "DYNREFER_PORT 'http://10.0.0.7:8000' is invalid"),
        ("DYNREFER_SERVICE_HOSTS", "10.0.0.7", "unknown setting DYNREFER_SERVICE_HOSTS"),
        ("DYNREFER_PORT_8000", "1", "unknown setting DYNREFER_PORT_8000; did you mean DYNREFER_PORT?"),
        ("DYNREFER_NAME", "prod", "unknown setting DYNREFER_NAME"),
        ("DYNREFER_ENV_MODE", "prod", "unknown setting DYNREFER_ENV_MODE"),
        ("DYNREFER_ROOT_PATH", "region", "DYNREFER_ROOT_PATH 'region' is invalid"),
        ("DYNREFER_ROOT_PATH", "/region/", "DYNREFER_ROOT_PATH '/region/' is invalid"),
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


@pytest.mark.parametrize("name", ["DYNREFER_PORT", "DYNREFER_API_KEYS", "DYNREFER_DTYPE", "DYNREFER_METRICS_PORT"])
def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Compose's ${NAME:-}."""
    monkeypatch.setenv(name, "")
    assert load_settings() == Settings()
    with pytest.raises(SettingsError, match="--port '' is invalid"):
        load_settings({"port": ""})


KUBERNETES = {
    "DYNREFER_SERVICE_HOST": "10.0.0.7",
    "DYNREFER_SERVICE_PORT": "8000",
    "DYNREFER_SERVICE_PORT_HTTP": "8000",
    "DYNREFER_PORT": "tcp://10.0.0.7:8000",
    "DYNREFER_PORT_8000_TCP": "tcp://10.0.0.7:8000",
    "DYNREFER_PORT_8000_TCP_PROTO": "tcp",
    "DYNREFER_PORT_8000_TCP_PORT": "8000",
    "DYNREFER_PORT_8000_TCP_ADDR": "10.0.0.7",
    "DYNREFER_PORT_53_UDP": "udp://10.0.0.7:53",
}
SERVICE_OF_THE_METRICS = {  # kind: Service, name: dynrefer-metrics
    "DYNREFER_METRICS_SERVICE_HOST": "10.0.0.8",
    "DYNREFER_METRICS_SERVICE_PORT": "9090",
    "DYNREFER_METRICS_PORT": "tcp://[fd00::8]:9090",
    "DYNREFER_METRICS_PORT_9090_TCP_ADDR": "fd00::8",
}
DOCKER = {  # docker run --link server:dynrefer
    "DYNREFER_NAME": "/client/dynrefer",
    "DYNREFER_PORT": "tcp://172.17.0.2:8000",
    "DYNREFER_PORT_8000_TCP": "tcp://172.17.0.2:8000",
    "DYNREFER_ENV_DYNREFER_MODEL": "/models/other",
    "DYNREFER_ENV_PYTHONUNBUFFERED": "1",
}


@pytest.mark.parametrize("links", [KUBERNETES, SERVICE_OF_THE_METRICS, DOCKER])
def test_variables_of_links_are_no_settings(monkeypatch: pytest.MonkeyPatch, links: dict[str, str]) -> None:
    for name, value in links.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DYNREFER_MAX_REGIONS", "7")
    assert link_variables() == sorted(links)
    assert load_settings() == Settings(max_regions=7)
    assert (load_settings().port, load_settings().metrics_port) == (8000, None)
    assert load_settings({"port": "9000"}).port == 9000


@pytest.mark.parametrize("name", KUBERNETES)
def test_each_variable_of_a_link_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, KUBERNETES[name])
    assert link_variables() == [name] and load_settings() == Settings()


def test_settings_are_not_taken_for_links(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DYNREFER_PORT", "DYNREFER_METRICS_PORT"):
        monkeypatch.setenv(name, "9000")
    monkeypatch.setenv("SERVICE_HOST", "10.0.0.7")
    assert link_variables() == []
    assert [name for name in Settings.model_fields if LINK_NAME.fullmatch(name.upper())] == []
    assert (load_settings().port, load_settings().metrics_port) == (9000, 9000)


@pytest.mark.parametrize(("given", "host"), [("[::1]", "::1"), ("::1", "::1"), ("[fe80::1%lo]", "fe80::1%lo")])
def test_brackets_around_an_address_are_taken_off(given: str, host: str) -> None:
    settings = load_settings({"host": given, "metrics_host": given})
    assert (settings.host, settings.metrics_host) == (host, host)


def test_flags_are_named_as_typed() -> None:
    with pytest.raises(SettingsError, match="--max-regions '0' is invalid"):
        load_settings({"max_regions": "0"})


def test_keys_are_split_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "API_KEYS", "sesame, tulip,,")
    settings = load_settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["sesame", "tulip"]
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({"PORT": "5000"}, 5000),
        ({"PORT": " 5000 ", "AIP_HTTP_PORT": ""}, 5000),
        ({"PORT": "5000", "SAGEMAKER_BIND_TO_PORT": "5001"}, 5001),
        ({"PORT": "5000", "SAGEMAKER_BIND_TO_PORT": "5001", "AIP_HTTP_PORT": "5002"}, 5002),
        ({"PORT": "5000", "DYNREFER_PORT": "5003"}, 5003),
        ({"PORT": "5000", "DYNREFER_PORT": ""}, 5000),
        ({"PORT": "5000", "DYNREFER_PORT": "tcp://10.0.0.7:8000"}, 5000),
        ({"PORT": "tcp://10.0.0.7:8000"}, 8000),
        ({}, 8000),
    ],
)
def test_the_platform_names_the_port_where_the_user_does_not(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], port: int
) -> None:
    for name in PLATFORM_PORTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_settings().port == port
    assert load_settings({"port": "7000"}).port == 7000


@pytest.mark.parametrize("value", ["http", "-1", "70000", "8000/tcp"])
@pytest.mark.parametrize("name", PLATFORM_PORTS)
def test_a_platforms_port_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for each in PLATFORM_PORTS:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} '{value}' is invalid: a port is a number from 0 to 65535."):
        load_settings()

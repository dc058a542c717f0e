"""The field `language`, else Accept-Language with its weights (RFC 9110)."""

import pytest

from dynrefer.service.inputs.language import wanted_languages


@pytest.mark.parametrize(
    ("header", "languages"),
    [
        ("", ()),
        ("de", ("de",)),
        ("de-AT, de;q=0.8, en;q=0.5", ("de-AT", "de", "en")),
        ("en;q=0.2,fr;q=0.9 , zh-Hans", ("zh-Hans", "fr", "en")),
        ("fr;q=0.5, de;q=0.5", ("fr", "de")),
        ("de;q=0, fr", ("fr",)),
        ("*", ("en",)),
        ("de;q=2, ;;, fr;q=x, ja", ("ja",)),
        ("de;q=1.000;x=1, es", ("es",)),
    ],
)
def test_weights(header: str, languages: tuple[str, ...]) -> None:
    assert wanted_languages(None, header) == languages


def test_the_field_comes_first() -> None:
    assert wanted_languages("ja", "de") == ("ja",)


def test_a_long_header_is_cut() -> None:
    assert len(wanted_languages(None, "de," * 10_000)) == 50

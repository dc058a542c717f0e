"""Languages are looked up as in RFC 4647; names of an answer in the language that was asked for."""

import json
from pathlib import Path

import pytest

from dynrefer.model import AttributeLabel, Label, RegionDescription, read_vocabulary
from dynrefer.model.errors import ConfigError
from dynrefer.model.translations import Translations, Translator, is_language

OWN = Translations(
    objects={"dog": {"de": "Hund", "zh": "狗"}, "orange": {"de": "Orange"}},
    properties={"orange": {"de": "orangefarben"}},
    attributes={"color:red": {"de": "Farbe:rot"}},
)


def described(domain: str | None = None) -> RegionDescription:
    results = {
        "tags": (Label("dog", 0.9, 0.8), Label("orange", 0.8, 0.7), Label("leash", 0.7, 0.6)),
        "attributes": (AttributeLabel("color:red", "color", "red", 0.9, 0.8),),
        "categories": (Label("dog", 7.0, 0.9),),
    }
    return RegionDescription((0, 0, 1, 1), False, None, {}, results, domain=domain)


@pytest.mark.parametrize(
    ("asked", "language", "word"),
    [
        (("de",), "de", "Hund"),
        (("de-AT",), "de-AT", "Hund"),
        (("zh-Hans-CN",), "zh-Hans-CN", "狗"),
        (("nl", "DE"), "DE", "Hund"),
        (("en", "de"), "en", "dog"),
        (("nl",), None, "dog"),
        ((), None, "dog"),
    ],
)
def test_the_first_language_in_which_there_are_words(asked: tuple[str, ...], language: str | None, word: str) -> None:
    translator = Translator(asked, None, OWN)
    assert translator.language == language
    found = translator.described(described())
    assert found.tags is not None and found.tags[0].name == word and found.tags[2].name == "leash"
    assert found.categories == (Label(word, 7.0, 0.9),)


def test_attributes_have_their_type_and_value_in_it_too() -> None:
    found = Translator(("de",), None, OWN).described(described())
    assert found.attributes == (AttributeLabel("Farbe:rot", "Farbe", "rot", 0.9, 0.8),)


def test_a_tag_of_two_meanings_stays_in_a_photograph() -> None:
    translator = Translator(("de",), None, OWN)
    assert translator.described(described("drawing")).tags[1].name == "orangefarben"  # type: ignore[index]
    assert translator.described(described("photograph")).tags[1].name == "orange"  # type: ignore[index]
    assert OWN.of("tags", "orange", "photograph") == {}


def test_words_of_a_request_have_its_own_translations_alone() -> None:
    words = {
        "tags": ["dog", {"name": "leash", "translations": {"de": "Leine"}}],
        "attributes": [{"name": "color:red", "translations": {"de": "rot"}}],
    }
    found = Translator(("de",), read_vocabulary(words), OWN).described(described())
    assert [each.name for each in found.tags or ()] == ["dog", "orange", "Leine"]
    assert found.attributes == (AttributeLabel("color:rot", "color", "rot", 0.9, 0.8),)
    assert [each.name for each in found.categories or ()] == ["Hund"]  # the list that was not given


def test_forms_of_tags() -> None:
    assert all(map(is_language, ("de", "zh-Hans", "sr-Latn-RS", "x-a")[:3]))
    assert not any(map(is_language, ("", "d", "de_DE", "de-", "deutschland", "*", "de\n", "a" * 9)))


@pytest.mark.parametrize(
    "content", [{"things": {}}, {"objects": {"dog": {"DE": "Hund"}}}, {"objects": {"dog": "Hund"}}]
)
def test_a_malformed_file(tmp_path: Path, content: object) -> None:
    (tmp_path / "translations.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"translations\.json"):
        Translations.load(tmp_path)


def test_a_model_without_translations(tmp_path: Path) -> None:
    assert Translations.load(tmp_path).languages == frozenset()


def test_the_language_is_that_of_lists_that_are_answered() -> None:
    """The model's own lists have Chinese, but only the request's categories are written."""
    words = read_vocabulary({"categories": [{"name": "bell", "translations": {"de": "Glocke"}}]})
    assert Translator(("zh", "de"), words, OWN).language == "zh"
    assert Translator(("zh", "de"), words, OWN, ("categories",)).language == "de"
    assert Translator(("zh",), words, OWN, ("categories",)).language is None

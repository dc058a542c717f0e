"""The translations that ship, and how they are made."""

import json
from pathlib import Path

import pytest

from dynrefer.model.translations import Translations
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.languages.translations import (
    LANGUAGES,
    OWN_WORDS,
    read_own_words,
    short_names,
    translations,
)
from tests.repository import ROOT

EMBEDDED = ROOT / "model" / "embedded"


def test_own_words_stand_in_the_shipped_file() -> None:
    own = read_own_words(OWN_WORDS.read_text(encoding="utf-8"))
    shipped = Translations.load(EMBEDDED)
    known = set(shipped.objects)
    assert {name: shipped.objects[name] for name in own["objects"] if name in known} == {
        name: words for name, words in own["objects"].items() if name in known
    }
    assert set(shipped.properties) <= set(own["properties"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dog", {"de": "Hund", "fr": "chien", "es": "perro", "ja": "イヌ", "zh": "狗"}),
        # The things that the lists mean.
        ("tie", {"de": "Krawatte", "fr": "cravate", "es": "corbata", "ja": "ネクタイ", "zh": "领带"}),
        ("keyboard", {"de": "Tastatur", "fr": "clavier", "es": "teclado", "ja": "キーボード", "zh": "键盘"}),
        ("crane", {"de": "Kranich", "fr": "grue", "es": "grulla", "ja": "ツル", "zh": "鹤"}),
        ("fox", {"de": "Fuchs", "fr": "renard", "es": "zorro", "ja": "キツネ", "zh": "狐狸"}),
    ],
)  # fmt: skip
def test_meanings_of_names(name: str, words: dict[str, str]) -> None:
    assert Translations.load(EMBEDDED).objects[name] == words


def test_fruit_and_colour() -> None:
    found = Translations.load(EMBEDDED)
    assert found.of("categories", "orange")["de"] == "Orange"
    assert found.of("tags", "orange", "drawing")["de"] == "orange"
    assert found.of("tags", "orange", "photograph") == {}


def test_all_properties_and_attributes_have_all_languages() -> None:
    found = Translations.load(EMBEDDED)
    names = json.loads((EMBEDDED / "vocabulary.json").read_text(encoding="utf-8"))
    for attribute in names["attributes"]:
        assert set(found.attributes[attribute["name"]]) == set(LANGUAGES)
    for tag in names["tags"]:
        assert found.of("tags", tag, "drawing"), tag


def test_short_names_of_pictures_and_own_words_first() -> None:
    entries = {
        "en": {"🦊": {"tts": ["fox"]}, "🐁": {"tts": ["mouse"]}},
        "ja": {"🦊": {"tts": ["キツネの顔"]}},
        **{tag: {} for tag in ("de", "fr", "es", "zh")},
    }
    pictures = short_names(entries)
    assert pictures["fox"] == {"ja": "キツネ"}
    own = {
        "objects": {"mouse": {"de": "Maus"}},
        "properties": {"red": {"de": "rot"}},
        "types": {"color": {"de": "Farbe"}},
    }
    assert translations(["fox", "mouse", "gnu"], ["red"], ["color:red"], own, pictures) == {
        "objects": {"fox": {"ja": "キツネ"}, "mouse": {"de": "Maus"}},
        "properties": {"red": {"de": "rot"}},
        "attributes": {"color:red": {"de": "Farbe:rot"}},
    }


@pytest.mark.parametrize("line", ["dog | Hund", "[things]", "dog | a | b | c | d | e\ndog | a | b | c | d | e"])
def test_bad_own_words(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line"):
        read_own_words(line if line.startswith("[") else f"[objects]\n{line}")

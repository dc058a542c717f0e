"""Words, nouns and references of a text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.converse.embedded.lexicon import NOUN, NOUNS, REFERENCE, UNKNOWN, Lexicon


@pytest.fixture
def lexicon() -> Lexicon:
    meanings = np.eye(3, dtype=np.float32)
    nouns = {"dog": (0, False), "hot dog": (1, False), "animals": (2, True), "animal": (2, False), "orange": (1, False)}
    words = ("?", "a", "is", "orange", "the", "what")
    return Lexicon(words, nouns, meanings, {"orange": (0,)}, {"dog": "pair of dogs"})


def test_the_longest_noun_is_one_token(lexicon: Lexicon) -> None:
    pieces = lexicon.read("What is the hot dog?")
    assert [piece.text for piece in pieces] == ["what", "is", "the", "hot dog", "?"]
    assert pieces[3].word == NOUN and pieces[3].noun is not None and pieces[3].noun.row == 1


def test_a_plural_names_what_its_singular_does(lexicon: Lexicon) -> None:
    first, second = lexicon.read("dogs animals")
    assert first.word == second.word == NOUNS
    assert first.noun is not None and first.noun.row == 0


def test_a_word_for_a_property_is_no_noun(lexicon: Lexicon) -> None:
    (piece,) = lexicon.read("orange")
    assert piece.noun is None and lexicon.text_of(piece.word) == "orange"


def test_references_keep_their_names_and_unknown_words_their_letters(lexicon: Lexicon) -> None:
    reference, word = lexicon.read("<region:My.box> frobnicate")
    assert (reference.word, reference.region) == (REFERENCE, "My.box")
    assert (word.word, word.text) == (UNKNOWN, "frobnicate")
    assert any(lexicon.grams("frobnicate"))


def test_a_file_of_it_is_the_same(lexicon: Lexicon, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(lexicon.to_json()))
    found = Lexicon.load(path, 3, 1)
    assert found.words == lexicon.words and found.nouns == lexicon.nouns and found.spoken == lexicon.spoken
    assert (found.meanings == lexicon.meanings).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"meanings": [{"7": 1.0}]}, "3 categories"),
        ({"nouns": {"dog": [9, False]}}, "'meanings'"),
        ({"properties": {"red": [5]}}, "1 attributes"),
        ({"words": None}, "no vocabulary"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    lexicon: Lexicon, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(lexicon.to_json() | change))
    with pytest.raises(ConfigError, match=said):
        Lexicon.load(path, 3, 1)

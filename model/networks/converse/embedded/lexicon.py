"""The converser's words: ordinary words, words for properties, and nouns, which are read by what they mean.

A noun is one token, whatever its words: a row that says which part of each of the describer's categories it names
("dog": one, "animal": many). So a noun that no training question held is understood where the row is known. Words that
are in no list are read by their groups of three letters, and by the vectors of `word_vectors.py`. No torch.

Shapes: K = the describer's categories, A = its attributes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.conversation import REGION
from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import read_json_object

Floats = NDArray[np.float32]

# Tokens that are no words. END: of an answer. CHOICE: stands behind each allowed answer. NOUN, NOUNS: a noun, in the
# singular and the plural. REFERENCE: `<region:a>`.
SPECIAL = (
    "<pad>",
    "<unknown>",
    "<user>",
    "<assistant>",
    "<choice>",
    "<end>",
    "<noun>",
    "<nouns>",
    "<reference>",
    "<region>",
)
PAD, UNKNOWN, USER, ASSISTANT, CHOICE, END, NOUN, NOUNS, REFERENCE, REGION_SLOT = range(len(SPECIAL))
GRAMS = 10  # groups of letters of a word that are read, at most
GRAM_ROWS = 1024  # their table; row 0 is none
_LONGEST_NOUN = 4  # words
_PIECE = re.compile(rf"{REGION.pattern}|[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
_PLURALS = (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("ves", "f"), ("s", ""))


@dataclass(frozen=True, slots=True)
class Noun:
    """text: as it was read. row: of the table of meanings; plural: whether it names several."""

    text: str
    row: int
    plural: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, noun or reference of a text. word: its token. noun: of a noun. region: the name of a referred region."""

    text: str
    word: int
    noun: Noun | None = None
    region: str | None = None


@dataclass(frozen=True)
class Lexicon:
    """words: ordinary words and marks, in the order of their tokens, behind `SPECIAL`. nouns: text -> row, plural.

    meanings: (rows, K), of the nouns' rows. properties: word -> places among the describer's attributes.
    spoken: category -> what one object of it is called in an answer, where that is not its name ("pair of skis").
    """

    words: tuple[str, ...]
    nouns: Mapping[str, tuple[int, bool]]
    meanings: Floats
    properties: Mapping[str, tuple[int, ...]]
    spoken: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tokens(self) -> dict[str, int]:
        """Word -> token."""
        return {word: len(SPECIAL) + place for place, word in enumerate(self.words)}

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(SPECIAL) + len(self.words)

    def text_of(self, token: int) -> str:
        """Of an ordinary word."""
        return self.words[token - len(SPECIAL)]

    def read(self, text: str) -> list[Piece]:
        """The pieces of a text, in order."""
        found = [(match.group(0), match.group(1)) for match in _PIECE.finditer(text)]
        pieces, place = [], 0
        while place < len(found):
            raw, region = found[place]
            if region is not None:
                pieces.append(Piece(raw, REFERENCE, region=region))
                place += 1
                continue
            noun, length = self._noun([each for each, name in found[place : place + _LONGEST_NOUN] if name is None])
            if noun is not None:
                pieces.append(Piece(noun.text, NOUNS if noun.plural else NOUN, noun))
                place += length
                continue
            word = raw.lower().replace("’", "'")
            pieces.append(Piece(word, self.tokens.get(word, UNKNOWN)))
            place += 1
        return pieces

    def _noun(self, following: Sequence[str]) -> tuple[Noun | None, int]:
        """The longest noun that these words begin with, and how many of them it has."""
        longest = len(following) if following and following[0].lower() in self._beginnings else 1
        for length in range(min(longest, len(following)), 0, -1):
            text = " ".join(following[:length]).lower()
            if text in self.properties:
                return None, 0
            for form, plural in _forms(text):
                known = self.nouns.get(form)
                if known is not None and not (plural and form != text and text in self.tokens):
                    return Noun(text, known[0], known[1] or plural), length
        return None, 0

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        """First words of the nouns that have several."""
        return frozenset(text.split()[0] for text in self.nouns if " " in text)

    def property_rows(self, attributes: int) -> Floats:
        """(size, A) float32: which attributes each token names."""
        rows = np.zeros((self.size, attributes), np.float32)
        for word, places in self.properties.items():
            if word in self.tokens:
                rows[self.tokens[word], list(places)] = 1.0
        return rows

    def grams(self, word: str) -> list[int]:
        """Rows of its groups of three letters, `GRAMS` of them; 0 where it has fewer."""
        padded = f"^{word}$"
        rows = [1 + zlib.crc32(padded[i : i + 3].encode()) % (GRAM_ROWS - 1) for i in range(max(1, len(padded) - 2))]
        return (rows + [0] * GRAMS)[:GRAMS]

    def gram_rows(self) -> NDArray[np.int64]:
        """(size, GRAMS): of every token; those of `SPECIAL` have none."""
        empty = [[0] * GRAMS for _ in SPECIAL]
        return np.array(empty + [self.grams(word) for word in self.words], np.int64)

    def to_json(self) -> dict[str, Any]:
        """As `of_json` reads it."""
        rows = [{str(k): round(float(row[k]), 4) for k in np.flatnonzero(row)} for row in self.meanings]
        return {
            "words": list(self.words),
            "nouns": {text: [row, plural] for text, (row, plural) in self.nouns.items()},
            "meanings": rows,
            "properties": {word: list(places) for word, places in self.properties.items()},
            "spoken": dict(self.spoken),
        }

    @classmethod
    def load(cls, path: Path, categories: int, attributes: int) -> Lexicon:
        """Raises `ConfigError`, `ModelNotFoundError`: also for one that does not fit so many categories, attributes."""
        given = read_json_object(path, "vocabulary of the converser")
        try:
            meanings = np.zeros((len(given["meanings"]), categories), np.float32)
            for row, values in zip(meanings, given["meanings"], strict=True):
                for place, value in values.items():
                    row[int(place)] = float(value)
            nouns = {str(text): (int(row), bool(plural)) for text, (row, plural) in given["nouns"].items()}
            properties = {word: tuple(int(each) for each in places) for word, places in given["properties"].items()}
            found = cls(tuple(map(str, given["words"])), nouns, meanings, properties, dict(given["spoken"]))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"{str(path)!r} is no vocabulary for {categories} categories: {error!r:.100}.") from error
        if any(not 0 <= row < len(meanings) for row, _ in nouns.values()):
            raise ConfigError(f"{str(path)!r}: a noun has a row that 'meanings' does not.")
        if any(not 0 <= place < attributes for places in properties.values() for place in places):
            raise ConfigError(f"{str(path)!r}: a property is beyond the model's {attributes} attributes.")
        return found


def _forms(text: str) -> list[tuple[str, bool]]:
    """The text, and its singulars by the rules of spelling, each with whether it was taken for a plural."""
    return [
        (text, False),
        *((text[: -len(end)] + own, True) for end, own in _PLURALS if text.endswith(end) and len(text) > 3),
    ]

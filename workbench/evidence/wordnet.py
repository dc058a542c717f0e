"""WordNet's nouns: what a word may mean, and what stands above each meaning.

Reads the database files of WordNet 3.0 (wndb(5WN)): `index.noun`, a line per lemma with the synsets of its senses, and
`data.noun`, a line per synset with its pointers. A synset is named "n" and its eight-digit offset, as ImageNet does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dynrefer.workbench.errors import DataError

_INSTANCE = "@i"
_HYPERNYM = ("@", _INSTANCE)


@dataclass(frozen=True, eq=False)
class WordNet:
    """The graph of nouns.

    lemmas: lemma, with underscores -> its synsets, the most frequent sense first.
    hypernyms: synset -> those directly above.
    instances: synsets that are one person, place or thing ("Paris"), no kind of thing.
    """

    lemmas: Mapping[str, tuple[str, ...]]
    hypernyms: Mapping[str, tuple[str, ...]]
    instances: frozenset[str] = frozenset()

    @classmethod
    def read(cls, directory: Path) -> WordNet:
        """From a directory with `index.noun` and `data.noun`; raises `DataError` if one is missing."""
        synsets = [_synset(line) for line in _lines(directory / "data.noun")]
        return cls(
            dict(_lemma(line) for line in _lines(directory / "index.noun")),
            {synset: tuple(above for _, above in pointers) for synset, pointers in synsets},
            frozenset(synset for synset, pointers in synsets if any(symbol == _INSTANCE for symbol, _ in pointers)),
        )

    def sense(self, reference: str) -> str:
        """The synset of "lemma.number", such as "bat.5": lemma in lower case, underscores for spaces, senses from 1."""
        lemma, _, number = reference.rpartition(".")
        senses = self.lemmas.get(lemma, ())
        if not number.isdigit() or not 1 <= int(number) <= len(senses):
            raise DataError(f"WordNet has no noun sense {reference!r}; write lemma.number.")
        return senses[int(number) - 1]

    def above(self, synset: str) -> frozenset[str]:
        """The synset itself and everything above it."""
        known = self._above.get(synset)
        if known is None:
            if synset not in self.hypernyms:
                raise DataError(f"WordNet has no noun synset {synset!r}.")
            known = frozenset({synset}.union(*(self.above(parent) for parent in self.hypernyms[synset])))
            self._above[synset] = known
        return known

    def common(self, synsets: Collection[str]) -> str:
        """The most specific synset above all of these: the one with most above it; of two such, the lower number."""
        shared = frozenset.intersection(*(self.above(synset) for synset in synsets))
        return min(shared, key=lambda synset: (-len(self.above(synset)), synset))

    @cached_property
    def _above(self) -> dict[str, frozenset[str]]:
        return {}


def _lines(path: Path) -> list[str]:
    """The lines behind the licence, whose lines begin with two spaces."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise DataError(f"{path.name} of WordNet is not there; Debian's package wordnet-base has it.") from None
    return [line for line in text.splitlines() if not line.startswith("  ")]


def _lemma(line: str) -> tuple[str, tuple[str, ...]]:
    fields = line.split()
    return fields[0], tuple(f"n{offset}" for offset in fields[-int(fields[2]) :])


def _synset(line: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A synset, and symbol and target of its pointers to what is above.

    Offset, file, type, number of words (hexadecimal), words and ids, number of pointers, pointers of four fields.
    """
    fields = line.partition(" | ")[0].split()
    start = 4 + 2 * int(fields[3], 16)
    pointers = (fields[i : i + 3] for i in range(start + 1, start + 1 + 4 * int(fields[start]), 4))
    above = tuple((symbol, f"n{offset}") for symbol, offset, part in pointers if symbol in _HYPERNYM and part == "n")
    return f"n{fields[0]}", above

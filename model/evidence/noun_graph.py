"""WordNet's graph of nouns for things, as it ships: what a noun may mean, and what stands above each meaning.

The data, `embedded/evidence/nouns.safetensors`, is made by workbench/evidence/noun_graph.py from WordNet 3.0 (see
NOTICE). A synset is a meaning, named "n" and the eight digits of its offset, as ImageNet does; here it is the place of
that offset among all that the file holds. No torch.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import WeightsError
from dynrefer.model.evidence.names import IMAGENET_CLASSES
from dynrefer.model.model_files import read_header

GRAPH_FILE = "nouns.safetensors"

# The arrays of the file, with the types that safetensors gives them.
TYPES = {
    "lemmas": "U8",  # text: sorted, a line feed between two
    "sense_counts": "U8",  # per lemma
    "senses": "U16",  # synsets, lemma by lemma, the most frequent first
    "sense_numbers": "U8",  # of each, as WordNet counts them, from 1
    "offsets": "U32",  # per synset, ascending
    "hypernym_counts": "U8",  # per synset
    "hypernyms": "U16",  # synset by synset
    "below": "U16",  # per synset: how many are below it
    "classes": "U16",  # per class of ImageNet: its synset
    "exceptions": "U8",  # text: "mice mouse", a line each, sorted
}


@dataclass(frozen=True, slots=True)
class Sense:
    """A meaning of a lemma. number: as WordNet counts its noun senses, from 1."""

    lemma: str
    number: int
    synset: int

    def __str__(self) -> str:
        return f"{self.lemma}.{self.number}"


class NounGraph:
    """Lemmas, senses and what is above them. For any thread. classes: the synset of each class of ImageNet."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._offsets = arrays["offsets"]
        self._lemmas = arrays["lemmas"].tobytes().split(b"\n")
        self._sense_starts = _starts(arrays["sense_counts"])
        self._senses, self._numbers = arrays["senses"], arrays["sense_numbers"]
        self._hypernym_starts = _starts(arrays["hypernym_counts"]).tolist()
        self._hypernyms: list[int] = arrays["hypernyms"].tolist()
        self._below = arrays["below"]
        self.classes: list[int] = arrays["classes"].tolist()
        self._exceptions = arrays["exceptions"]
        self._log_size = math.log(len(self._offsets))

    @classmethod
    def load(cls, path: Path) -> NounGraph:
        """Read the file. Raises `ModelNotFoundError` if it is missing, `WeightsError` if it is not of this form."""
        from safetensors.numpy import load_file

        check_header(path)
        arrays = load_file(path)
        if not _fits(arrays):
            raise WeightsError(f"the graph of nouns {str(path)!r} contradicts itself; make it again.")
        return cls(arrays)

    def __len__(self) -> int:
        return len(self._offsets)

    def synset(self, name: str) -> int | None:
        """The synset of a name such as "n02084071"; None if the graph lacks it."""
        offset = int(name[1:])
        place = int(np.searchsorted(self._offsets, offset))
        return place if place < len(self._offsets) and self._offsets[place] == offset else None

    def name(self, synset: int) -> str:
        """ "n" and eight digits."""
        return f"n{int(self._offsets[synset]):08d}"

    def senses(self, lemma: str) -> tuple[Sense, ...]:
        """The meanings of a lemma, in lower case, with spaces; the most frequent first, none if it is unknown."""
        wanted = lemma.encode("utf-8", "surrogatepass")
        place = bisect_left(self._lemmas, wanted)
        if place == len(self._lemmas) or self._lemmas[place] != wanted:
            return ()
        span = slice(int(self._sense_starts[place]), int(self._sense_starts[place + 1]))
        found = zip(self._numbers[span].tolist(), self._senses[span].tolist(), strict=True)
        return tuple(Sense(lemma, number, synset) for number, synset in found)

    def lemmas(self) -> Iterator[str]:
        """All of them, sorted."""
        return (lemma.decode() for lemma in self._lemmas)

    def hypernyms(self, synset: int) -> list[int]:
        """The synsets directly above."""
        return self._hypernyms[self._hypernym_starts[synset] : self._hypernym_starts[synset + 1]]

    def information(self, synset: int) -> float:
        """How much a word of this meaning says, 0 (anything) to 1 (nothing is below it).

        From the graph alone: 1 - log(synsets below + 1) / log(all synsets); Seco, Veale and Hayes, "An intrinsic
        information content metric for semantic similarity in WordNet", ECAI 2004.
        """
        return 1.0 - math.log(int(self._below[synset]) + 1) / self._log_size

    def joints(self) -> Iterator[int]:
        """The synsets with more than one directly above."""
        return (synset for synset, (start, end) in enumerate(pairwise(self._hypernym_starts)) if end - start > 1)

    @cached_property
    def irregular(self) -> dict[str, str]:
        """Plural -> singular, where no rule of English gives it."""
        lines = self._exceptions.tobytes().decode("ascii").splitlines()
        return {plural.replace("_", " "): singular.replace("_", " ") for plural, singular in map(str.split, lines)}


def check_header(path: Path) -> None:
    """What can be seen without reading the file: that it is complete, and holds what it should. Raises as `load`."""
    header = read_header(path, "graph of nouns")
    if {name: tensor.dtype for name, tensor in header.items()} != TYPES:
        raise WeightsError(f"the graph of nouns {str(path)!r} must hold {', '.join(TYPES)}, of their types.")


def _starts(counts: NDArray[Any]) -> NDArray[np.int64]:
    """Where each segment begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _fits(arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether counts, lengths and references of the file agree, and hypernyms form no circle."""
    synsets = len(arrays["offsets"])
    if any(array.ndim != 1 for array in arrays.values()) or synsets < 2:
        return False
    lemmas = arrays["lemmas"].tobytes().count(b"\n") + 1
    lengths = (
        (len(arrays["sense_counts"]), lemmas),
        (int(arrays["sense_counts"].sum(dtype=np.int64)), len(arrays["senses"])),
        (len(arrays["senses"]), len(arrays["sense_numbers"])),
        (len(arrays["hypernym_counts"]), synsets),
        (len(arrays["below"]), synsets),
        (int(arrays["hypernym_counts"].sum(dtype=np.int64)), len(arrays["hypernyms"])),
    )
    return (
        all(found == expected for found, expected in lengths)
        and bool((np.diff(arrays["offsets"].astype(np.int64)) > 0).all())
        and bool((arrays["senses"] < synsets).all())
        and bool((arrays["hypernyms"] < synsets).all())
        and bool((arrays["classes"] < synsets).all())
        and len(arrays["classes"]) == IMAGENET_CLASSES
        # What is above has more below it, so that nobody who climbs comes round again.
        and bool(
            (
                arrays["below"][np.repeat(np.arange(synsets), arrays["hypernym_counts"])]
                < arrays["below"][arrays["hypernyms"]]
            ).all()
        )
    )

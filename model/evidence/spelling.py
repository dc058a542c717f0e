"""Words that are spelled alike, found fast enough for a request with thousands that nobody knows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

_CANDIDATES = 8  # by shared pairs of letters, which are then compared letter by letter
_NEAREST = 3
_LEAST = 0.6  # similarity, as `difflib` measures it


class Spelling:
    """Own words, by the pairs of letters in them. For any thread."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(dict.fromkeys(words))
        self._lengths = [len(_pairs(word)) for word in self._words]
        self._with_pair: dict[str, list[int]] = {}
        for place, word in enumerate(self._words):
            for pair in _pairs(word):
                self._with_pair.setdefault(pair, []).append(place)

    def nearest(self, text: str) -> tuple[str, ...]:
        """The own words most like a text, the best first; at most three, perhaps none."""
        pairs = _pairs(text)
        shared = Counter(place for pair in pairs for place in self._with_pair.get(pair, ()))
        alike = {place: count / (len(pairs) + self._lengths[place]) for place, count in shared.items()}
        best = sorted(alike, key=lambda place: (-alike[place], place))[:_CANDIDATES]
        return tuple(difflib.get_close_matches(text, [self._words[i] for i in best], n=_NEAREST, cutoff=_LEAST))


def _pairs(text: str) -> frozenset[str]:
    marked = f" {text} "
    return frozenset(marked[i : i + 2] for i in range(len(marked) - 1))

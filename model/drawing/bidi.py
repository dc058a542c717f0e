"""The order in which the parts of a line stand, where letters from right to left are among them.

HarfBuzz sets a part in one font and one direction; this says what the parts are, and their order from left to right.
It follows Unicode's bidirectional algorithm (UAX #9, revision 50: rules P2, W1 to W7, N1, N2, I1, I2 and L2), without
embeddings and isolates, which `typefaces.legible` takes out of labels, and without pairs of brackets (N0).
"""

import unicodedata
from collections.abc import Sequence
from itertools import groupby

_RIGHT = ("R", "AL")
_STRONG = ("L", *_RIGHT)
_NUMBERS = ("EN", "AN")
_SEPARATORS = ("ES", "CS")


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is one from right to left (P2, P3)."""
    kinds = map(unicodedata.bidirectional, text)
    return next((kind in _RIGHT for kind in kinds if kind in _STRONG), False)


def has_right_to_left(text: str) -> bool:
    """Whether any character is to be set from right to left."""
    return any(unicodedata.bidirectional(each) in (*_RIGHT, "AN") for each in text)


def levels(text: str) -> list[int]:
    """Per character its level: even from left to right, odd from right to left, higher ones nested deeper."""
    base = int(is_right_to_left(text))
    kinds = _without_neutrals(_resolved([unicodedata.bidirectional(each) for each in text], base), base)
    if base:
        return [1 if kind == "R" else 2 for kind in kinds]
    return [0 if kind == "L" else 1 if kind == "R" else 2 for kind in kinds]


def in_visual_order(parts: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Parts of a line, (text, level) in the order of reading, as they stand from left to right (L2)."""
    ordered = list(parts)
    highest = max((level for _, level in ordered), default=0)
    for level in range(highest, 0, -1):
        turned: list[tuple[str, int]] = []
        for deep, group in groupby(ordered, key=lambda part: part[1] >= level):
            listed = list(group)
            turned += listed[::-1] if deep else listed
        ordered = turned
    return ordered


def _resolved(kinds: list[str], base: int) -> list[str]:
    """Marks, numbers and separators by what stands around them (W1 to W7); R also for Arabic letters."""
    start = "R" if base else "L"
    before, strong = start, start
    for place, kind in enumerate(kinds):
        if kind in ("NSM", "BN"):
            kinds[place] = kind = before
        if kind in _STRONG:
            strong = kind
        if kind == "EN" and strong == "AL":
            kinds[place] = "AN"
        before = kinds[place]
    for place in range(1, len(kinds) - 1):
        left, right = kinds[place - 1], kinds[place + 1]
        if left == right and (
            (kinds[place] in _SEPARATORS and left == "EN") or (kinds[place] == "CS" and left == "AN")
        ):
            kinds[place] = left
    for direction in (1, -1):  # signs beside a number are part of it: 20 %, $ 5
        before = ""
        for place in range(len(kinds))[::direction]:
            if kinds[place] == "ET" and before == "EN":
                kinds[place] = "EN"
            before = kinds[place]
    strong = start
    for place, kind in enumerate(kinds):
        if kind in _STRONG:
            strong = "R" if kind in _RIGHT else "L"
            kinds[place] = strong
        elif kind == "EN" and strong == "L":
            kinds[place] = "L"
    return kinds


def _without_neutrals(kinds: list[str], base: int) -> list[str]:
    """What has no direction takes that of both its sides, else the line's (N1, N2)."""
    start = "R" if base else "L"
    directed = ("L", "R", *_NUMBERS)
    place = 0
    while place < len(kinds):
        end = place
        while end < len(kinds) and kinds[end] not in directed:
            end += 1
        if end > place:
            left = _side(kinds[place - 1]) if place else start
            right = _side(kinds[end]) if end < len(kinds) else start
            kinds[place:end] = [left if left == right else start] * (end - place)
        place = max(end, place + 1)
    return kinds


def _side(kind: str) -> str:
    return "R" if kind in _NUMBERS else kind

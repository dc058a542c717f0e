"""How well each candidate fits each noun phrase: its name, what describes it, and where it is to the others.

    fit of candidate i to a phrase = name(i) x each modifier(i) x each relation
    a relation(i) to another phrase = the best over j of its fit(j), relative to its best, x placement(i, j)

Names come from the finder, or from the describer where the finder does not know the word; modifiers from the
describer's attributes; sizes, ranks and relations from the boxes alone. Pure NumPy.
Shapes: N = candidates, P = phrases. Boxes (N, 4) xyxy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.geometry import ImageSize
from dynrefer.model.grounding.sentence import GroundedPhrase, Relation
from dynrefer.model.suppression import overlaps, suppress

Floats = NDArray[np.float32]

SIZES = frozenset(("small", "large"))  # are measured on the boxes

_SMALL, _LARGE, _SOFT = 0.18, 0.29, 0.02  # of the image's side: the larger of a box's relative sides
_UNSAID = 0.5  # of an attribute that the describer has no word for: it tells nothing
_NOT_THERE = 0.1  # best fit of a phrase, below which the image shows none of its objects
_SAME = 0.5  # boxes that overlap by more are of one object
_ALIKE = 0.5  # of the best fit: what fits so well is compared by ranks
_LEAST = 0.02  # what contradicts a phrase still fits so much


@dataclass(frozen=True)
class Seen:
    """What is known of N candidates. names: of each noun, (N,) in 0..1. attributes: of each value, (N,) in 0..1."""

    boxes: Floats
    objectness: Floats
    names: Mapping[str, Floats]
    attributes: Mapping[str, Floats]
    size: ImageSize


def ground(phrases: Sequence[GroundedPhrase], seen: Seen) -> Floats:
    """The fit of each candidate to each phrase, (N, P) in 0..1, of which a box's score is made."""
    known: dict[int, Floats] = {}
    columns = [_fit(place, phrases, seen, known, ()) for place in range(len(phrases))]
    return np.stack(columns, axis=1) if columns else np.empty((len(seen.boxes), 0), dtype=np.float32)


def _fit(
    place: int, phrases: Sequence[GroundedPhrase], seen: Seen, known: dict[int, Floats], above: tuple[int, ...]
) -> Floats:
    """(N,). above: phrases that wait for this one; a phrase never waits for itself."""
    if place in known:
        return known[place]
    phrase = phrases[place]
    names = seen.objectness if not phrase.noun else seen.names.get(phrase.noun, np.zeros_like(seen.objectness))
    fit = names.astype(np.float32).copy()
    for modifier in phrase.modifiers:
        fit *= np.maximum(_modifier(modifier, seen), _LEAST)
    for relation in phrase.relations:
        if not set(relation.targets) & {place, *above}:
            fits = [_fit(target, phrases, seen, known, (*above, place)) for target in relation.targets]
            fit *= np.maximum(_related(relation, fits, seen), _LEAST)
    for rank in phrase.ranks:
        fit *= _rank(rank, phrase.ordinal if rank == phrase.ranks[-1] else 1, fit, seen)
    known[place] = fit
    return fit


def _modifier(modifier: str, seen: Seen) -> Floats:
    """(N,) how well the word describes each candidate."""
    if modifier in SIZES:
        width, height = seen.size
        sides = (seen.boxes[:, 2:] - seen.boxes[:, :2]) / np.array([width, height], np.float32)
        extent = sides.max(axis=1)
        off = (extent - _LARGE) if modifier == "large" else (_SMALL - extent)
        return np.asarray(1 / (1 + np.exp(-np.clip(off / _SOFT, -20, 20))), dtype=np.float32)
    found = seen.attributes.get(modifier)
    return np.full(len(seen.boxes), _UNSAID, dtype=np.float32) if found is None else found


def _rank(rank: str, ordinal: int, fit: Floats, seen: Seen) -> Floats:
    """1 for the object that comes first, or the ordinal-th, among those that fit, less for the others.

    Boxes of one object share its place.
    """
    boxes = seen.boxes
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    values = {
        "largest": -areas,
        "smallest": areas,
        "leftmost": middle[:, 0],
        "rightmost": -middle[:, 0],
        "topmost": middle[:, 1],
        "lowest": -middle[:, 1],
        "middle": np.hypot(*(middle / np.array(seen.size, np.float32) - 0.5).T),
    }[rank]
    likely = np.flatnonzero(fit >= _ALIKE * fit.max(initial=0.0))
    objects = likely[suppress(boxes[likely], fit[likely], _SAME)]
    objects = objects[np.argsort(values[objects], kind="stable")]
    place = np.full(len(fit), len(objects), dtype=np.float32)
    if len(objects):
        place[likely] = overlaps(boxes[likely], boxes[objects]).argmax(axis=1)
    return np.asarray(0.5 ** np.abs(place - (ordinal - 1)), dtype=np.float32)


def _related(relation: Relation, fits: Sequence[Floats], seen: Seen) -> Floats:
    """(N,) how well each candidate is so placed to the best object of the target phrases.

    All alike where the image shows no such object: the phrase may be right about the rest.
    """
    best = [float(fit.max(initial=0.0)) for fit in fits]
    if min(best) < _NOT_THERE:
        return np.ones(len(seen.boxes), dtype=np.float32)
    if relation.kind == "between":
        pair = [int(fit.argmax()) for fit in fits] if len(fits) == 2 else _best_two(fits[0], seen.boxes)
        return _between(seen.boxes, *pair) if len(pair) == 2 else np.ones(len(seen.boxes), dtype=np.float32)
    placed = placement(relation.kind, seen.boxes, seen.size)  # (N, N)
    np.fill_diagonal(placed, 0.0)
    return np.asarray((placed * (fits[0] / best[0])[None, :]).max(axis=1, initial=0.0), dtype=np.float32)


def placement(kind: str, boxes: Floats, size: ImageSize) -> Floats:
    """(N, N) in 0..1: how well box i is placed to box j as the words say; image size (W, H) in pixels."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = middle[None, :, :] - middle[:, None, :]  # from i to j
    length = np.maximum(np.hypot(off[..., 0], off[..., 1]), 1e-6)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    gaps = np.maximum(low - high, 0)
    gap = np.hypot(gaps[..., 0], gaps[..., 1]) / np.hypot(*size)
    near = np.exp(-gap / 0.15)
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-6)
    covered = shared / areas[:, None]  # the part of i that lies in j
    touching = np.clip(shared / np.minimum(areas[:, None], areas[None, :]) / 0.05, 0, 1)
    # Along one axis, and mostly along it.
    across, down = off[..., 0] / length, off[..., 1] / length
    by_kind = {
        "left of": np.clip(across, 0, 1) ** 2 * near,
        "right of": np.clip(-across, 0, 1) ** 2 * near,
        "above": np.clip(down, 0, 1) ** 2 * near,
        "below": np.clip(-down, 0, 1) ** 2 * near,
        "on": np.maximum(np.clip(down, 0, 1) ** 2 * near, covered),
        "inside": covered,
        "in front of": touching,
        "behind": touching,
        "with": near,
        "next to": near,
        "far from": 1 - near,
        "larger than": np.clip(1.5 - 0.5 * areas[None, :] / areas[:, None], 0, 1) * (areas[:, None] > areas[None, :]),
        "smaller than": np.clip(1.5 - 0.5 * areas[:, None] / areas[None, :], 0, 1) * (areas[:, None] < areas[None, :]),
    }
    return np.asarray(by_kind[kind], dtype=np.float32).copy()


def _best_two(fit: Floats, boxes: Floats) -> list[int]:
    """The two objects that fit best, where there are two."""
    likely = np.flatnonzero(fit >= _NOT_THERE)
    return [int(each) for each in likely[suppress(boxes[likely], fit[likely], _SAME)[:2]]]


def _between(boxes: Floats, first: int, second: int) -> Floats:
    """(N,) how near the middle of each box is to the line between two others."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    start, end = middle[first], middle[second]
    along = end - start
    length = max(float(np.hypot(*along)), 1e-6)
    part = ((middle - start) @ along) / length**2
    aside = np.abs((middle - start) @ np.array([-along[1], along[0]], np.float32)) / length**2
    fit = np.exp(-((aside / 0.25) ** 2)) * np.clip(1 - 2 * np.maximum(np.abs(part - 0.5) - 0.4, 0), 0, 1)
    fit[[first, second]] = 0.0
    return np.asarray(fit, dtype=np.float32)

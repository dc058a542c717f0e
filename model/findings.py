"""Candidates of a finder, and what the describer said of some of them -> the regions that are answered.

For the three questions: names, a phrase, or neither. A region's score is the probability that there is an object with
its box, and that it is what was asked for, as one number that thresholds apply to. Shapes: N = candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.find_names import excluded_scores, name_scores
from dynrefer.model.finding import AbsentName, AskedName, Candidates, Findings, FindQuery, FoundRegion
from dynrefer.model.geometry import ImageSize
from dynrefer.model.masks import RegionMask, mask_from_bitmap
from dynrefer.model.request_vocabulary import RequestVocabulary, Word
from dynrefer.model.segmentation import WindowMask, bitmap_of
from dynrefer.model.suppression import overlaps, suppress
from dynrefer.model.types import Corners, RegionDescription, RegionQuery, Task

Floats = NDArray[np.float32]

LOOKS = 20  # so many candidates at most does the describer look at, to name what the finder has no word for
_SAME_OBJECT = 0.8  # boxes of different names that overlap by more are one object, and the better name has it
_NOT_MEANT = 0.5  # likewise of a word that is not meant


@dataclass(frozen=True)
class FindSettings:
    """threshold: least score of a region, unless a request sets one. proposal_threshold: likewise where nothing is
    asked for. scale, bias: of the logistic function from a score's logit to its calibrated probability.
    """

    threshold: float = 0.3
    proposal_threshold: float = 0.3
    scale: float = 1.0
    bias: float = 0.0


def queries_to_look(query: FindQuery, found: Candidates, settings: FindSettings) -> list[RegionQuery]:
    """What the describer is asked about candidates: which object it is, where the finder does not know the words, or
    where nothing was asked for."""
    if query.names:
        nobody = {word.name for word in found.unknown}
        asked_texts = (t for each in unknown_names(query, found) for t in (each.name, *each.synonyms, *each.excluded))
        words = tuple(Word(text) for text in dict.fromkeys(asked_texts) if text not in nobody)
        if not words:
            return []
        asked = RequestVocabulary(categories=words)
        places = candidates_to_look(query, found)
        return [
            RegionQuery(box=_corners(found.boxes[place]), tasks=(Task.CATEGORIES,), top_k=len(words), vocabulary=asked)
            for place in places
        ]
    if query.phrase is None:
        return [
            RegionQuery(box=_corners(found.boxes[place]), tasks=(Task.CAPTION, Task.CATEGORIES), top_k=1)
            for place in proposals(query, found, settings)
        ]
    return []


def unknown_names(query: FindQuery, found: Candidates) -> list[AskedName]:
    """The names that the finder cannot tell, and that somebody knows."""
    nobody = {word.name for word in found.unknown}
    return [
        each
        for each in query.names
        if not {each.name, *each.synonyms} <= nobody and bool(np.isnan(name_scores(each, found)).all())
    ]


def candidates_to_look(query: FindQuery, found: Candidates) -> NDArray[np.int64]:
    """The candidates that the describer looks at, best objectness first."""
    return suppress(found.boxes, found.objectness, max(query.nms, 0.5))[:LOOKS]


def proposals(query: FindQuery, found: Candidates, settings: FindSettings) -> NDArray[np.int64]:
    """The candidates that are answered where nothing was asked for."""
    least = settings.proposal_threshold if query.threshold is None else query.threshold
    kept = suppress(found.boxes, found.objectness, query.nms)
    return kept[found.objectness[kept] >= least][: query.max_regions]


def findings(
    query: FindQuery,
    found: Candidates,
    looked: Sequence[RegionDescription],
    size: ImageSize,
    settings: FindSettings,
) -> Findings:
    """The answer. looked: of `queries_to_look`. size: (W, H) of the upright image."""
    if query.names:
        regions, absent = _named(query, found, looked, settings)
    else:
        regions, absent = _proposed(query, found, looked, settings), []
    regions = regions[: query.max_regions]
    if query.masks and found.mask_logits is not None:
        regions = [replace(each, mask=_mask(each, found.mask_logits[each.candidate], size)) for each in regions]
    return Findings(tuple(regions), tuple(absent), found.unknown)


def _named(
    query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], settings: FindSettings
) -> tuple[list[FoundRegion], list[AbsentName]]:
    least = settings.threshold if query.threshold is None else query.threshold
    told = _with_looks(query, found, looked)
    nobody = {word.name for word in found.unknown}
    regions: list[FoundRegion] = []
    absent = []
    for name in query.names:
        scores = np.nan_to_num(name_scores(name, told), nan=0.0)
        other = excluded_scores(name, told)
        scores = np.where(other > scores, 0.0, scores).astype(np.float32)
        likely = np.flatnonzero(scores >= max(least, 1e-6))
        kept = likely[suppress(told.boxes[likely], scores[likely], query.nms)]
        regions += [
            FoundRegion(
                _corners(told.boxes[i]),
                name.name,
                _rounded(scores[i]),
                _rounded(_probability(scores[i], settings)),
                int(i),
            )
            for i in kept.tolist()
        ]
        if not len(kept) and name.name not in nobody:
            presence = _probability(np.float32(scores.max(initial=0.0)), settings)
            if presence < 0.5:
                absent.append(AbsentName(name.name, _rounded(presence)))
    return _one_name_per_object(regions), absent


def _with_looks(query: FindQuery, found: Candidates, looked: Sequence[RegionDescription]) -> Candidates:
    """The candidates with the describer's word where the finder had none."""
    if not looked:
        return found
    scores = found.scores.copy()
    places = candidates_to_look(query, found)[: len(looked)]
    for name in unknown_names(query, found):
        for text in (name.name, *name.synonyms, *name.excluded):
            column = found.texts.index(text)
            scores[:, column] = 0.0
            for place, description in zip(places.tolist(), looked, strict=True):
                said = {label.name: label.probability for label in description.categories or ()}
                scores[place, column] = np.sqrt(max(0.0, said.get(text, 0.0)) * float(found.objectness[place]))
    return replace(found, scores=scores)


def _proposed(
    query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], settings: FindSettings
) -> list[FoundRegion]:
    regions = []
    for place, description in zip(proposals(query, found, settings).tolist(), looked, strict=False):
        category = description.categories[0].name if description.categories else ""
        phrase = description.caption.text if description.caption else None
        score = found.objectness[place]
        probability = _rounded(_probability(score, settings))
        box = _corners(found.boxes[place])
        region = FoundRegion(box, category, _rounded(score), probability, place, phrase=phrase, category=category)
        regions.append(replace(region, description=description))
    return regions


def _one_name_per_object(regions: Sequence[FoundRegion]) -> list[FoundRegion]:
    """By descending score; a box that a better name has too is left to that name."""
    ordered = sorted(regions, key=lambda each: (-each.score, each.label, each.box))
    kept: list[FoundRegion] = []
    for region in ordered:
        others = np.array([each.box for each in kept if each.label != region.label], np.float32).reshape(-1, 4)
        if not len(others) or overlaps(np.array([region.box], np.float32), others).max() <= _SAME_OBJECT:
            kept.append(region)
    return kept


def _mask(region: FoundRegion, logits: NDArray[np.float16], size: ImageSize) -> RegionMask:
    """The mask's part inside the box; the box itself where nothing of it is left."""
    width, height = size
    bitmap = bitmap_of(WindowMask((0.0, 0.0, float(width), float(height)), logits), (), size)
    x1, y1 = (int(np.floor(value)) for value in region.box[:2])
    x2, y2 = (int(np.ceil(value)) for value in region.box[2:])
    inside = np.zeros_like(bitmap)
    inside[y1:y2, x1:x2] = bitmap[y1:y2, x1:x2]
    if not inside.any():
        inside[y1:y2, x1:x2] = True
    return mask_from_bitmap(inside)


def _probability(score: np.float32, settings: FindSettings) -> float:
    least = min(max(float(score), 1e-6), 1 - 1e-6)
    logit = np.log(least / (1 - least))
    return float(1 / (1 + np.exp(-(settings.scale * logit + settings.bias))))


def _corners(box: Floats) -> Corners:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    return x1, y1, x2, y2


def _rounded(value: float | np.float32) -> float:
    return round(float(value), 4)

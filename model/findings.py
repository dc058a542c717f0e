"""Candidates of a finder, and what the describer said of some of them -> the regions that are answered.

For the three questions: names, a phrase, or neither. A region's score is the probability that there is an object with
its box, and that it is what was asked for, as one number that thresholds apply to. Shapes: N = candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.asked_scores import Looks, name_scores, one_name_per_object, words_to_look
from dynrefer.model.finding import MOST_LOOKS, AbsentName, Candidates, Findings, FindQuery, FoundRegion
from dynrefer.model.geometry import ImageSize
from dynrefer.model.grounding.scoring import SIZES, Seen, ground
from dynrefer.model.grounding.sentence import GroundedPhrase, read_sentence
from dynrefer.model.hierarchy import CATEGORIES, levels
from dynrefer.model.masks import RegionMask
from dynrefer.model.request_vocabulary import RequestVocabulary, Word
from dynrefer.model.segmentation import WindowMask, mask_in_box
from dynrefer.model.suppression import suppress
from dynrefer.model.types import Corners, RegionDescription, RegionQuery, Task

Floats = NDArray[np.float32]

_NEARLY = 0.7  # of the best fit of a phrase that speaks of one object: what fits so well is answered too
_UNLOOKED = 0.1  # probability of an attribute of a candidate that the describer has not looked at
_BELOW_HALF = 0.4999
_NOTHING = 1e-6  # the least score that is one
_ALL = 1000  # labels


def queries_to_look(query: FindQuery, found: Candidates) -> list[RegionQuery]:
    """What the describer is asked about candidates: which object it is, where the finder does not know the words, or
    where nothing was asked for."""
    if query.names:
        words = words_to_look(query.names, found)
        asked = RequestVocabulary(categories=tuple(Word(text) for text in words))
        return [
            RegionQuery(box=_corners(found.boxes[place]), tasks=(Task.CATEGORIES,), top_k=len(words), vocabulary=asked)
            for place in (candidates_to_look(query, found) if words else ())
        ]
    if query.phrase is None:
        return [
            RegionQuery(box=_corners(found.boxes[place]), tasks=(Task.CAPTION, Task.CATEGORIES), top_k=CATEGORIES)
            for place in proposals(query, found)
        ]
    return _queries_of_phrase(query.phrase, query, found)


def _queries_of_phrase(sentence: str, query: FindQuery, found: Candidates) -> list[RegionQuery]:
    """What describes the objects of the sentence, and which they are where the finder does not know its nouns."""
    if found.phrases:
        return []
    phrases = read_sentence(sentence)
    nobody = {word.name for word in found.unknown}
    unknown = [text for text in found.texts if text not in nobody and np.isnan(_column(found, text)).all()]
    described = any(set(each.modifiers) - SIZES for each in phrases)
    if not unknown and not described:
        return []
    vocabulary = RequestVocabulary(categories=tuple(Word(text) for text in unknown)) if unknown else None
    tasks = (*((Task.ATTRIBUTES,) if described else ()), *((Task.CATEGORIES,) if unknown else ()))
    return [
        RegionQuery(box=_corners(found.boxes[place]), tasks=tasks, top_k=_ALL, vocabulary=vocabulary)
        for place in candidates_to_look(query, found)
    ]


def _column(found: Candidates, text: str) -> Floats:
    return found.scores[:, found.texts.index(text)]


def candidates_to_look(query: FindQuery, found: Candidates) -> NDArray[np.int64]:
    """The candidates that the describer looks at, best objectness first."""
    return suppress(found.boxes, found.objectness, max(query.nms, 0.5))[:MOST_LOOKS]


def proposals(query: FindQuery, found: Candidates) -> NDArray[np.int64]:
    """The candidates that are answered where nothing was asked for."""
    least = found.reading.proposal_threshold if query.threshold is None else query.threshold
    kept = suppress(found.boxes, found.objectness, query.nms)
    return kept[found.objectness[kept] >= least][: query.max_regions]


def findings(
    query: FindQuery,
    found: Candidates,
    looked: Sequence[RegionDescription],
    size: ImageSize,
    parents_of: Callable[[str], Sequence[str]] = lambda name: (),
) -> Findings:
    """The answer. looked: of `queries_to_look`. size: (W, H) of the upright image. parents_of: a category -> broader
    words, nearest first."""
    if query.names:
        regions, absent = _named(query, found, looked)
    elif query.phrase is not None:
        regions, absent = _grounded(query.phrase, query, found, looked, size)
    else:
        regions, absent = _proposed(query, found, looked, parents_of), []
    regions = regions[: query.max_regions]
    if query.masks and found.mask_logits is not None:
        regions = [replace(each, mask=_mask(each, found.mask_logits[each.candidate], size)) for each in regions]
    return Findings(tuple(regions), tuple(absent), found.unknown)


def _named(
    query: FindQuery, found: Candidates, looked: Sequence[RegionDescription]
) -> tuple[list[FoundRegion], list[AbsentName]]:
    """What each name has by itself; then of the names that want one object the best has it."""
    reading = found.reading
    least = max(reading.threshold if query.threshold is None else query.threshold, _NOTHING)
    looks = Looks(candidates_to_look(query, found)[: len(looked)], looked)
    nobody = {word.name for word in found.unknown}
    regions: list[FoundRegion] = []
    best: dict[str, float] = {}
    for name in query.names:
        scores = name_scores(name, found, looks)
        best[name.name] = float(scores.max(initial=0.0))
        likely = np.flatnonzero(scores >= least)
        for i in likely[suppress(found.boxes[likely], scores[likely], query.nms)].tolist():
            score, box = float(scores[i]), _corners(found.boxes[i])
            regions.append(FoundRegion(box, name.name, _rounded(score), _rounded(reading.region.probability(score)), i))
    regions = one_name_per_object(regions, query.names, found)
    absent = []
    for missing in best.keys() - {region.label for region in regions} - nobody:
        presence = reading.presence.probability(best[missing])
        if presence < 0.5:
            absent.append(AbsentName(missing, _rounded(presence)))
    order = [name.name for name in query.names]
    return regions, sorted(absent, key=lambda each: order.index(each.name))


def _grounded(
    sentence: str,
    query: FindQuery,
    found: Candidates,
    looked: Sequence[RegionDescription],
    size: ImageSize,
) -> tuple[list[FoundRegion], list[AbsentName]]:
    """A phrase of one object has the best candidate, and those that fit nearly as well; one of many has all."""
    phrases = read_sentence(sentence)
    fits = found.scores if found.phrases else ground(phrases, _seen(phrases, query, found, looked, size))
    least = found.reading.phrase_threshold if query.threshold is None else query.threshold
    regions: list[FoundRegion] = []
    absent = []
    for place, each in enumerate(phrases):
        scores = np.nan_to_num(fits[:, place], nan=0.0)
        best = float(scores.max(initial=0.0))
        bound = max(least, _NOTHING, 0.0 if each.many else _NEARLY * best)
        likely = np.flatnonzero(scores >= bound)
        kept = likely[suppress(found.boxes[likely], scores[likely], query.nms)]
        for i in kept.tolist():
            probability = _rounded(found.reading.region.probability(float(scores[i])))
            box, score = _corners(found.boxes[i]), _rounded(scores[i])
            regions.append(FoundRegion(box, each.phrase.text, score, probability, i, span=each.phrase.span))
        if not len(kept):
            presence = _rounded(min(found.reading.presence.probability(best), _BELOW_HALF))
            absent.append(AbsentName(each.phrase.text, presence, each.phrase.span))
    return sorted(regions, key=lambda region: -region.score), absent


def _seen(
    phrases: Sequence[GroundedPhrase],
    query: FindQuery,
    found: Candidates,
    looked: Sequence[RegionDescription],
    size: ImageSize,
) -> Seen:
    """What finder and describer say of the candidates."""
    count = len(found.boxes)
    names = {text: np.nan_to_num(_column(found, text), nan=0.0) for text in found.texts}
    attributes: dict[str, Floats] = {}
    for place, description in zip(candidates_to_look(query, found).tolist(), looked, strict=False):
        for label in description.attributes or ():
            column = attributes.setdefault(label.value, np.full(count, _UNLOOKED, dtype=np.float32))
            column[place] = label.probability
        for category in description.categories or ():
            if category.name in names:
                names[category.name][place] = np.sqrt(max(0.0, category.probability) * float(found.objectness[place]))
    return Seen(found.boxes, found.objectness, names, attributes, size)


def _proposed(
    query: FindQuery,
    found: Candidates,
    looked: Sequence[RegionDescription],
    parents_of: Callable[[str], Sequence[str]],
) -> list[FoundRegion]:
    regions = []
    for place, description in zip(proposals(query, found).tolist(), looked, strict=False):
        said = levels(description, parents_of)
        score = float(found.objectness[place])
        box, probability = _corners(found.boxes[place]), _rounded(found.reading.proposal.probability(score))
        region = FoundRegion(box, said.label, _rounded(score), probability, place)
        named = replace(region, phrase=said.phrase, category=said.category, parent=said.parent, description=description)
        regions.append(named)
    return regions


def with_masks(findings: Findings, masks: Sequence[WindowMask], size: ImageSize) -> Findings:
    """The findings with the masks that a segmenter found in the boxes of the regions, in order."""
    regions = zip(findings.regions, masks, strict=True)
    return replace(
        findings, regions=tuple(replace(each, mask=mask_in_box(mask, each.box, size)) for each, mask in regions)
    )


def _mask(region: FoundRegion, logits: NDArray[np.float16], size: ImageSize) -> RegionMask:
    width, height = size
    return mask_in_box(WindowMask((0.0, 0.0, float(width), float(height)), logits), region.box, size)


def _corners(box: Floats) -> Corners:
    x1, y1, x2, y2 = (round(float(value), 2) for value in box)
    return x1, y1, x2, y2


def _rounded(value: float | np.float32) -> float:
    return round(float(value), 4)

"""What a model says of labelled regions, in the words of a vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary, Word
from dynrefer.model.types import ALL_TASKS, RegionDescription, Task
from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.vocabularies.fitting import Examples, Floats, Labels, Link

LISTS = (Task.CATEGORIES, Task.ATTRIBUTES, Task.TAGS)
_EVERYTHING = -1e9  # a score that every word is above


# `DynRefer.describe`.
Describe = Callable[..., list[RegionDescription]]


@dataclass(frozen=True)
class LabelledList:
    """A list of the vocabulary, and what is true of R regions: (R, N), 1, 0, or -1 where unknown."""

    task: Task
    names: tuple[str, ...]
    truth: Labels


def labelled_lists(vocabulary: RequestVocabulary, data: LabelledData) -> list[LabelledList]:
    """The lists that the labels say anything about.

    A region's category is right for the words that are it or have it as a synonym; of a tag that is no category of the
    file nothing is known. Raises `DataError` where the labels name nothing of the vocabulary.
    """
    found = []
    for task in LISTS:
        words = vocabulary.words(task)
        if words is not None:
            truth = _attributes(words, data) if task is Task.ATTRIBUTES else _categories(words, data, task)
            if (truth == 1).any():
                found.append(LabelledList(task, tuple(map(name_of, words)), truth))
    if not found:
        known = [*data.categories, *data.attributes]
        raise DataError(
            f"no label of {data.source} is a word of the vocabulary; its labels are {', '.join(known[:10]) or 'none'}."
        )
    return found


def examples_of(
    describe: Describe, vocabulary: RequestVocabulary, data: LabelledData, lists: list[LabelledList]
) -> list[Examples]:
    """What the model says, list by list, with each task's own views; earlier thresholds and calibrations are left out.

    The regions of `data` are `located`, and in the order of their images.
    """
    bare = without_fit(vocabulary)
    shapes = [each.truth.shape for each in lists]
    scores = [np.full(shape, np.nan) for shape in shapes]
    probabilities = [np.full(shape, np.nan) for shape in shapes]
    images, row, evidence = np.zeros(len(data), np.intp), 0, False
    for place, image in enumerate(data.image_regions()):
        pixels = image.load()
        for index, each in enumerate(lists):
            described = describe(
                pixels, image.boxes, each.task, vocabulary=bare, top_k=len(each.names),
                thresholds={each.task: _EVERYTHING},
            )  # fmt: skip
            columns = {name: column for column, name in enumerate(each.names)}
            for offset, found in enumerate(described):
                evidence = evidence or found.domain is not None
                for label in found.results[each.task]:
                    scores[index][row + offset, columns[label.name]] = label.score
                    probabilities[index][row + offset, columns[label.name]] = label.probability
        images[row : row + len(image.boxes)] = place
        row += len(image.boxes)
    found_examples = []
    for each, raw, own in zip(lists, scores, probabilities, strict=True):
        link = Link.SIGMOID if each.task is not Task.CATEGORIES else Link.EXP if evidence else Link.SOFTMAX
        logits = raw if each.task is Task.CATEGORIES else _logits(raw)
        found_examples.append(Examples(logits, own, each.truth, images, link))
    return found_examples


def without_fit(vocabulary: RequestVocabulary) -> RequestVocabulary:
    """The same words without thresholds and calibration."""
    lists: Mapping[str, Any] = {
        task: tuple(replace(word, threshold=None) for word in words)
        for task in ALL_TASKS
        if (words := vocabulary.words(task)) is not None
    }
    return RequestVocabulary(**lists)


def name_of(word: Word | AttributeWord) -> str:
    """What answers say."""
    return word.attribute.name if isinstance(word, AttributeWord) else word.name


def _categories(words: tuple[Any, ...], data: LabelledData, task: Task) -> Labels:
    listed = {folded(name) for name in data.categories}
    truth = np.full((len(data), len(words)), -1, np.int8)
    for column, word in enumerate(words):
        texts = {folded(text) for text in (word.name, *word.synonyms)}
        for row, region in enumerate(data.regions):
            if region.category is None or region.crowd:
                continue
            if folded(region.category) in texts:
                truth[row, column] = 1
            elif task is Task.CATEGORIES or texts & listed:
                truth[row, column] = 0
    return truth


def _attributes(words: tuple[Any, ...], data: LabelledData) -> Labels:
    truth = np.full((len(data), len(words)), -1, np.int8)
    columns = {folded(name.split("/")[0]): place for place, name in enumerate(data.attributes)}
    for column, word in enumerate(words):
        place = columns.get(folded(word.attribute.name))
        for row, region in enumerate(data.regions):
            if place is not None and region.attributes is not None:
                truth[row, column] = region.attributes[place]
    return truth


def folded(text: str) -> str:
    """Without what people write in different ways: case, underscores, spaces."""
    return " ".join(text.replace("_", " ").split()).casefold()


def _logits(scores: Floats) -> Floats:
    """Of scores in [0, 1], finite; NaN stays."""
    inside = np.clip(scores, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(inside) - np.log1p(-inside))

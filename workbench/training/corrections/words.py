"""What corrections say, in the words of a model: which words it knows, which are new, and what is true of each region.

A list of tags or attributes judges every word that occurs in any correction: a word that is not in the list is wrong
there. Of all other words nothing is known; whoever labels sees the choices of a labelling configuration and not the
model's whole vocabulary. A category is one of all.

Shapes: R = regions, T = tags, A = attributes, K = categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.types import Task
from dynrefer.model.vocabulary import Attribute, Vocabulary
from dynrefer.workbench.data.corrections import Correction
from dynrefer.workbench.vocabularies.examples import folded

LISTS = (Task.CATEGORIES, Task.TAGS, Task.ATTRIBUTES)
LEAST_EXAMPLES = 5  # regions that a new word must be right for, among those to train on

Truth = NDArray[np.int8]


class KnownWords:
    """The words of a vocabulary as people write them: whatever the case, and attributes by their value too."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.names: dict[Task, tuple[str, ...]] = {
            Task.CATEGORIES: vocabulary.categories,
            Task.TAGS: vocabulary.tags,
            Task.ATTRIBUTES: tuple(attribute.name for attribute in vocabulary.attributes),
        }
        self._places = {task: _places(names) for task, names in self.names.items()}
        self._values = _values(vocabulary.attributes)

    def place(self, task: Task, word: str) -> int | None:
        """Its place in the list of the task; None for a word that the vocabulary lacks."""
        key = folded(word)
        found = self._places[task].get(key)
        return self._values.get(key) if found is None and task is Task.ATTRIBUTES else found


def _places(names: Sequence[str]) -> dict[str, int]:
    return {folded(name): place for place, name in reversed(list(enumerate(names)))}


def _values(attributes: Sequence[Attribute]) -> dict[str, int]:
    """Synonyms that only one attribute has."""
    owners: dict[str, set[int]] = {}
    for place, attribute in enumerate(attributes):
        for synonym in attribute.synonyms:
            owners.setdefault(folded(synonym), set()).add(place)
    return {word: places.pop() for word, places in owners.items() if len(places) == 1}


@dataclass(frozen=True)
class Judged:
    """What is true of R corrected regions. categories: (R, K), tags: (R, T), attributes: (R, A), each 1, 0, or -1 where
    nothing is known; a row of categories has one 1 or is unknown throughout."""

    categories: Truth
    tags: Truth
    attributes: Truth

    def of(self, task: Task) -> Truth:
        """(R, N) of one list."""
        found: Truth = getattr(self, task.value)
        return found

    def rows(self, task: Task) -> NDArray[np.intp]:
        """The regions of which something is known."""
        return np.flatnonzero((self.of(task) >= 0).any(axis=1))


def judge(corrections: Sequence[Correction], known: KnownWords, every: Sequence[Correction]) -> Judged:
    """What is true of `corrections`. every: those whose lists say which words are judged at all."""
    truth = {}
    for task in LISTS:
        table = np.full((len(corrections), len(known.names[task])), -1, np.int8)
        said = {known.place(task, word) for each in every for word in each.words(task) or ()} - {None}
        columns = np.array(sorted(place for place in said if place is not None), dtype=np.intp)
        for row, each in enumerate(corrections):
            words = each.words(task)
            if words is None:
                continue
            right = [place for word in words if (place := known.place(task, word)) is not None]
            if task is Task.CATEGORIES:
                if not right:
                    continue
                table[row] = 0
            else:
                table[row, columns] = 0
            table[row, right] = 1
        truth[task] = table
    return Judged(truth[Task.CATEGORIES], truth[Task.TAGS], truth[Task.ATTRIBUTES])


def unknown_words(corrections: Sequence[Correction], known: KnownWords) -> dict[Task, Counter[str]]:
    """Words that the vocabulary lacks, with the number of regions that have them."""
    found: dict[Task, Counter[str]] = {task: Counter() for task in LISTS}
    for each in corrections:
        for task in LISTS:
            words = {folded(word) for word in each.words(task) or () if known.place(task, word) is None}
            found[task].update(words)
    return found


def enlarged(vocabulary: Vocabulary, unknown: Mapping[Task, Counter[str]]) -> tuple[Vocabulary, list[str]]:
    """The vocabulary with the new words that have examples enough at the end of its lists; and those left out, told.

    An attribute is "type:value"; its sentence is that of the type's other values ("the object is red").
    """
    added: dict[Task, list[str]] = {task: [] for task in LISTS}
    told = []
    for task, words in unknown.items():
        for word, count in sorted(words.items()):
            kind, _, value = word.partition(":")
            if count < LEAST_EXAMPLES:
                told.append(f"{word!r} of the {task.value} has {count} training regions of {LEAST_EXAMPLES}")
            elif task is Task.ATTRIBUTES and not (kind and value):
                told.append(f'{word!r} of the attributes is not of the form "type:value"')
            else:
                added[task].append(word)
    templates = {attribute.type: attribute.template for attribute in vocabulary.attributes}
    attributes = []
    for name in added[Task.ATTRIBUTES]:
        kind, _, value = name.partition(":")
        attributes.append(Attribute(name, kind, (value,), templates.get(kind, "is")))
    larger = replace(
        vocabulary,
        tags=(*vocabulary.tags, *added[Task.TAGS]),
        attributes=(*vocabulary.attributes, *attributes),
        categories=(*vocabulary.categories, *added[Task.CATEGORIES]),
    )
    return larger, told


def unknown_sentence(unknown: Mapping[Task, Counter[str]]) -> str | None:
    """Which words a model lacks, and how often they were said; None if it lacks none."""
    parts = []
    for task, words in unknown.items():
        if words:
            shown = ", ".join(f"{word} ({count})" for word, count in words.most_common(5))
            more = f" and {len(words) - 5} more" if len(words) > 5 else ""
            parts.append(f"{task.value}: {shown}{more}")
    return "; ".join(parts) or None

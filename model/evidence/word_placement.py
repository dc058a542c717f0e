"""Any word of a request -> how likely a region's object is that, by the place of the word among what the model knows.

A word of the model's own lists is that. Any other noun for a thing stands somewhere in WordNet's graph: above what the
model knows ("furniture"), below ("poodle cross") or beside it ("mongoose"). What is in no list and not in the graph is
unknown, and is never guessed.

Shapes: N = words, C = categories of the network, K = names of the evidence, L = leaves (`known_things.py`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.detector import COCO_NAMES
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.known_things import NARROWER, Anchor, KnownThings
from dynrefer.model.evidence.names import ROOT, EvidenceName, EvidenceNames
from dynrefer.model.evidence.noun_graph import NounGraph, Sense
from dynrefer.model.evidence.spelling import Spelling
from dynrefer.model.evidence.word_forms import forms, heads, plain

Floats = NDArray[np.float32]
Via = Literal["own", "synonym", "broader", "narrower", "relative", "none"]

_REMEMBERED = 8192  # words; each takes 1 to 4 kB
_NEAREST = 3
# What a sense is worth beside the one before it, which is used more often.
_NEXT_SENSE = 0.8
_MOSTLY = 0.5  # of the smaller of two words, for them to be kin


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A sparse row: places, ascending, and the value at each."""

    places: NDArray[np.int32]
    values: Floats

    @classmethod
    def of(cls, row: Floats) -> Weights:
        """Those of a row that are not 0."""
        places = np.flatnonzero(row).astype(np.int32)
        return cls(places, row[places].astype(np.float32))

    def scaled(self, factor: float) -> Weights:
        return replace(self, values=(self.values * factor).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class PlacedWord:
    """A word of a request among what the model knows.

    name: as given. synset: the meaning that was taken, of WordNet 3.0 ("n02086723"); None for unknown words. sense: the
    same to read, "lemma.number" as WordNet numbers its noun senses; "" if there is none.
    via: "own" and "synonym": a word of the model's lists, and another for it; "broader", "narrower": above and below
    such words; "relative": beside them; "none": unknown.
    nearest: own words next to it; of an unknown word those that are spelled alike.
    drawn, photographed: which part of the probability of the network's categories (C,), and of the leaves of
    photographs (L,), is the word's.
    """

    name: str
    synset: str | None
    sense: str
    via: Via
    nearest: tuple[str, ...]
    drawn: Weights
    photographed: Weights

    def breadth(self, photograph: bool) -> float:
        """How much of what is known of photographs, or of drawings, is below it: 1 is one category, or one class."""
        return float((self.photographed if photograph else self.drawn).values.sum())


class WordPlacement:
    """Places words. For any thread.

    categories: the network's, (C,); each must be among the names. names: of the evidence.
    """

    def __init__(self, graph: NounGraph, categories: Sequence[str], names: EvidenceNames) -> None:
        self._graph, self._categories, self._names = graph, tuple(categories), names
        self._known: OrderedDict[str, PlacedWord] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path, categories: Sequence[str], names: EvidenceNames) -> WordPlacement:
        """path: of the graph of nouns. Raises as `NounGraph.load`."""
        return cls(NounGraph.load(path), categories, names)

    def place(self, words: Sequence[str]) -> tuple[PlacedWord, ...]:
        """Each word's place. Words that differ in case, spacing, article or number have the same one."""
        return tuple(self._remembered(word) for word in words)

    def probabilities(self, placed: Sequence[PlacedWord], identity: Identity) -> Floats:
        """(N,) in [0, 1], that a region's object is each of these; NaN for unknown words.

        Not shared out among the words: a broader word has at least the probability of a narrower one, and what is none
        of them is none of them.
        """
        of_leaves = self._leaf_probabilities(identity) if identity.photograph else identity.categories
        rows = [word.photographed if identity.photograph else word.drawn for word in placed]
        lengths = np.array([len(row.places) for row in rows], np.int64)
        filled = np.flatnonzero(lengths)
        found = np.zeros(len(placed), np.float32)
        if len(filled):
            products = (
                np.concatenate([row.values for row in rows]) * of_leaves[np.concatenate([r.places for r in rows])]
            )
            found[filled] = np.add.reduceat(products, np.cumsum([0, *lengths[filled][:-1]]))
        found = np.minimum(found, 1.0)
        found[[word.via == "none" for word in placed]] = np.nan
        return found

    def weights_of_coco(self, placed: PlacedWord) -> Floats:
        """(80,) which part of each of COCO's classes the word names, in the order of `COCO_NAMES`."""
        size = len(COCO_NAMES) + 1
        named = np.bincount(self._leaf_coco[placed.photographed.places], placed.photographed.values, size)
        counts = np.bincount(self._leaf_coco, minlength=size)
        return np.asarray((named / np.maximum(counts, 1))[:-1], np.float32)

    def kin(self, placed: Sequence[PlacedWord]) -> NDArray[np.bool_]:
        """(N, N) whether one of two words names most of what the other does: "dog" and "animal", "dog" and "hound".

        What is only a relative of things that are known is no kin: it may be any other thing beside them.
        """
        related = np.zeros((len(placed), len(placed)), dtype=bool)
        for part, size in (("drawn", len(self._categories)), ("photographed", len(self._leaf_names))):
            rows = np.zeros((len(placed), size), np.float32)
            for row, word in zip(rows, placed, strict=True):
                weights: Weights = getattr(word, part)
                if word.via != "relative":
                    row[weights.places] = weights.values
            squares = np.square(rows).sum(axis=1)
            smaller = np.minimum(squares[:, None], squares[None, :])
            related |= (smaller > 0) & (rows @ rows.T >= _MOSTLY * smaller)
        return related

    def _leaf_probabilities(self, identity: Identity) -> Floats:
        """(L,) of a photograph: a name's probability, shared out among its classes as the tower does, else evenly."""
        shares = (1.0 / self._leaf_counts)[self._leaf_names]
        if len(identity.classes):
            shares[self._classed] = identity.classes[self._leaf_classes]
        return np.asarray(identity.names[self._leaf_names] * shares, np.float32)

    def _remembered(self, word: str) -> PlacedWord:
        with self._lock:
            found = self._known.get(word)
            if found is not None:
                self._known.move_to_end(word)
                return found
        found = self._placed(word)
        with self._lock:
            self._known[word] = found
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _placed(self, word: str) -> PlacedWord:
        text = plain(word)
        for head in heads(text):
            for form in forms(head, self._graph.irregular):
                found = self._listed(word, form) or self._in_graph(word, form)
                if found is not None:
                    return found if head == text else self._described(found, head)
        return PlacedWord(word, None, "", "none", self._spelling.nearest(text), _NOWHERE, _NOWHERE)

    def _described(self, found: PlacedWord, head: str) -> PlacedWord:
        """A word with something before or behind it: one of the head's kind, no more is known of it."""
        drawn, photographed = found.drawn.scaled(NARROWER), found.photographed.scaled(NARROWER)
        via: Via = "narrower" if found.via in ("own", "synonym", "broader") else found.via
        nearest = (head,) if found.via == "own" else found.nearest
        return replace(found, via=via, nearest=nearest, drawn=drawn, photographed=photographed)

    def _listed(self, word: str, form: str) -> PlacedWord | None:
        """A word that the model's own lists have."""
        own = self._own.get(form)
        if own is not None:
            return self._of_own(word, own, "own")
        entry = self._synonyms.get(form)
        if entry is None:
            return None
        # The lists call a barracuda a fish, because nobody can tell; a fish that is none is no barracuda for all that.
        own_synset, senses = self._graph.synset(entry.synset), self._graph.senses(form)
        if all(sense.synset != own_synset for sense in senses):
            for sense in senses:
                if own_synset in self._photographs.above(sense.synset):
                    return self._of_sense(word, sense)
        return self._of_own(word, entry.name, "synonym")

    def _of_own(self, word: str, own: str, via: Via) -> PlacedWord:
        """One of the model's own words, where a list has it; elsewhere by its place in the graph."""
        synset = self._synset_of(own)
        drawn, photographed = self._own_drawn.get(own), self._own_photographed.get(own)
        if drawn is None:
            drawn = _nothing(self._drawings.size) if synset is None else self._drawings.weights(synset)
        if photographed is None:
            photographed = _nothing(self._photographs.size) if synset is None else self._photographs.weights(synset)
        sense = next((s for s in self._graph.senses(own) if s.synset == synset), None)
        name = None if synset is None else self._graph.name(synset)
        weights = Weights.of(drawn), Weights.of(photographed)
        return PlacedWord(word, name, "" if sense is None else str(sense), via, (own,), *weights)

    def _in_graph(self, word: str, form: str) -> PlacedWord | None:
        """A noun of the graph, by the sense that fits best what the model knows and is used often."""
        senses = self._graph.senses(form)
        if not senses:
            return None
        worth = [_NEXT_SENSE**place * self._familiarity(sense.synset) ** 2 for place, sense in enumerate(senses)]
        return self._of_sense(word, senses[worth.index(max(worth))])

    def _familiarity(self, synset: int) -> float:
        return max(self._drawings.familiarity(synset), self._photographs.familiarity(synset))

    def _of_sense(self, word: str, sense: Sense) -> PlacedWord:
        drawn, photographed = self._drawings.weights(sense.synset), self._photographs.weights(sense.synset)
        own = self._own_of_synset.get(sense.synset)
        nearest = self._near(drawn, photographed) if own is None else (own,)
        name, via = self._graph.name(sense.synset), self._via(sense.synset)
        return PlacedWord(word, name, str(sense), via, nearest, Weights.of(drawn), Weights.of(photographed))

    def _via(self, synset: int) -> Via:
        if synset in self._own_of_synset:
            return "synonym"
        found = {things.relation(synset) for things in (self._photographs, self._drawings)}
        if "broader" in found:
            # Some of the classes that are folded into one name are still below it.
            whole = self._photographs.weights(synset) == 1.0
            names = set(self._leaf_names[whole].tolist())
            part = len(names) == 1 and int(whole.sum()) < self._leaf_counts[next(iter(names))]
            return "narrower" if part else "broader"
        # Of a noun that is near nothing it is known that the model's objects are something else.
        return "narrower" if "narrower" in found else "relative"

    def _near(self, drawn: Floats, photographed: Floats) -> tuple[str, ...]:
        """The own words with the largest weights."""
        best = [(-value, self._categories[place]) for place, value in enumerate(drawn.tolist()) if value]
        names = self._leaf_names.tolist()
        best += [(-v, self._names.names[names[leaf]].name) for leaf, v in enumerate(photographed.tolist()) if v]
        return tuple(dict.fromkeys(name for _, name in sorted(best)))[:_NEAREST]

    def _synset_of(self, own: str) -> int | None:
        if own in self._names:
            return self._graph.synset(self._names.names[self._names.index(own)].synset)
        return self._parent_synsets.get(own)

    @cached_property
    def _own(self) -> dict[str, str]:
        """Form -> own word: names and their plurals, parents; a spelling of one is not taken by another."""
        words = [*(entry.name for entry in self._names.names), *(parent.name for parent in self._names.parents)]
        found = {plain(word): word for word in reversed(words)}
        for entry in self._names.names:
            found.setdefault(plain(entry.plural), entry.name)
        return found

    @cached_property
    def _synonyms(self) -> dict[str, EvidenceName]:
        pairs = [(plain(synonym), entry) for entry in self._names.names for synonym in entry.synonyms]
        return dict(reversed(pairs))

    @cached_property
    def _spelling(self) -> Spelling:
        """What an unknown word may have been meant to be."""
        return Spelling([*self._own, *self._synonyms])

    @cached_property
    def _own_drawn(self) -> dict[str, Floats]:
        """Own word -> (C,) weights: of categories, and of parents with a category below them."""
        found = {name: _ones([place], len(self._categories)) for place, name in enumerate(self._categories)}
        for parent, members in self._members.items():
            names = {self._names.names[i].name for i in members} | {parent}
            below = [place for place, name in enumerate(self._categories) if name in names]
            if below:
                found[parent] = _ones(below, len(self._categories))
        return found

    @cached_property
    def _own_photographed(self) -> dict[str, Floats]:
        """Own word -> (L,) weights: of every name and parent."""
        size = len(self._leaf_names)
        found = {entry.name: _ones(self._leaves_of([i]), size) for i, entry in enumerate(self._names.names)}
        return found | {parent: _ones(self._leaves_of(members), size) for parent, members in self._members.items()}

    def _leaves_of(self, names: Sequence[int]) -> tuple[int, ...]:
        ends = self._leaf_starts + self._leaf_counts
        return tuple(leaf for name in names for leaf in range(int(self._leaf_starts[name]), int(ends[name])))

    @cached_property
    def _own_of_synset(self) -> dict[int, str]:
        """Meaning -> the first own word that has it."""
        own = [*(entry.name for entry in self._names.names), *self._parent_synsets]
        found = {synset: word for word in reversed(own) if (synset := self._synset_of(word)) is not None}
        return found

    @cached_property
    def _photographs(self) -> KnownThings:
        leaves: list[int | None] = []
        anchors = []
        for place, entry in enumerate(self._names.names):
            synset = self._graph.synset(entry.synset)
            classes = [self._graph.classes[index] for index in entry.classes]
            # Where the lists give another meaning than ImageNet's, it is what the pictures show; and where a name has
            # one class alone, the tower tells nothing below the name apart.
            finer = [each for each in classes if len(classes) > 1 and synset in self._bare.above(each)]
            leaves += finer if finer and len(finer) == len(classes) else [synset] * max(1, len(classes))
            if synset is not None:
                anchors.append(Anchor(synset, self._leaves_of([place])))
        for parent, meaning in self._parent_synsets.items():
            anchors.append(Anchor(meaning, self._leaves_of(self._members[parent]), is_parent=True))
        return KnownThings(self._graph, leaves, anchors)

    @cached_property
    def _drawings(self) -> KnownThings:
        leaves = [self._synset_of(name) for name in self._categories]
        places = {name: place for place, name in enumerate(self._categories)}
        anchors = []
        for parent, meaning in self._parent_synsets.items():
            if parent in self._own_drawn and parent not in places:
                below = tuple(np.flatnonzero(self._own_drawn[parent]).tolist())
                anchors.append(Anchor(meaning, below, is_parent=True))
        extra: dict[int, set[int]] = {}
        for entry in self._names.names:
            synset = self._graph.synset(entry.synset)
            drawn = places.get(entry.drawn or "")
            above = None if drawn is None else leaves[drawn]
            if synset is None or above is None or entry.drawn == entry.name:
                continue
            if above not in self._bare.above(synset) and synset not in self._bare.above(above):
                extra.setdefault(synset, set()).add(above)
        return KnownThings(self._graph, leaves, anchors, extra)

    @cached_property
    def _bare(self) -> KnownThings:
        """Knows nothing but the graph."""
        return KnownThings(self._graph, ())

    @cached_property
    def _parent_synsets(self) -> dict[str, int]:
        """Parent -> its meaning: the sense under which most of its members are, if at least half are."""
        found = {}
        for parent, members in self._members.items():
            synsets = [self._graph.synset(self._names.names[i].synset) for i in members]
            above = [self._bare.above(synset) for synset in synsets if synset is not None]
            senses = self._graph.senses(parent)
            covered = [(sum(sense.synset in some for some in above), sense.synset) for sense in senses]
            most, synset = max(covered, key=lambda each: each[0], default=(0, -1))
            if 2 * most >= len(members) and parent != ROOT:
                found[parent] = synset
        return found

    @cached_property
    def _members(self) -> dict[str, tuple[int, ...]]:
        """Parent -> the places of its names."""
        return {
            parent.name: tuple(self._names.index(name) for name in self._names.leaves_under(parent.name))
            for parent in self._names.parents
        }

    @cached_property
    def _leaf_counts(self) -> NDArray[np.int64]:
        """(K,) leaves of each name: its classes, or itself if it has none."""
        return np.array([max(1, len(entry.classes)) for entry in self._names.names], np.int64)

    @cached_property
    def _leaf_starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *self._leaf_counts[:-1]], dtype=np.int64)

    @cached_property
    def _leaf_names(self) -> NDArray[np.int64]:
        """(L,) the name of each leaf."""
        return np.repeat(np.arange(len(self._names.names)), self._leaf_counts)

    @cached_property
    def _leaf_coco(self) -> NDArray[np.int64]:
        """(L,) COCO's class that each leaf is of; 80: of none."""
        classes = [
            len(COCO_NAMES) if entry.coco is None else COCO_NAMES.index(entry.coco) for entry in self._names.names
        ]
        return np.repeat(np.array(classes, np.int64), self._leaf_counts)

    @cached_property
    def _classed(self) -> NDArray[np.int64]:
        """The leaves that are classes."""
        return np.flatnonzero([bool(self._names.names[name].classes) for name in self._leaf_names.tolist()])

    @cached_property
    def _leaf_classes(self) -> NDArray[np.int64]:
        """The class of each of `_classed`."""
        return np.array([index for entry in self._names.names for index in entry.classes], np.int64)


def _ones(places: Sequence[int], size: int) -> Floats:
    row = _nothing(size)
    row[list(places)] = 1.0
    return row


def _nothing(size: int) -> Floats:
    return np.zeros(size, np.float32)


_NOWHERE = Weights.of(_nothing(0))

"""What a model knows of things, laid into the graph of nouns: which of its answers speak for a meaning, and how much.

There are two of them per model, the categories of its drawings and the names of its photographs. A leaf is a thing that
a region can be taken for; probabilities of leaves add up to one. A meaning's weights, one per leaf, say how much of a
leaf's probability is that of the meaning:

- 1 for what lies under the meaning;
- a share for a leaf above it, which falls with the distance: what is a dog may be a poodle;
- less for a leaf that is only related, by Lin's similarity: what looks like a meerkat may be a mongoose.

A meaning has at least the weights of what lies below it, so that its probability is never the smaller one.

Shapes: L = leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.noun_graph import NounGraph

Floats = NDArray[np.float32]
Relation = Literal["broader", "narrower", "relative", "none"]

# The most of a leaf's probability that a meaning has which is no more than near it. Below a half, so that such a word
# is never what a region is said to be.
NARROWER, RELATIVE = 0.45, 0.35
# Set by hand, and fitted to nothing.
SHARPNESS = 4.0  # power of the similarity of relatives
LEAST = 0.002  # weights below are left out


@dataclass(frozen=True, slots=True)
class Anchor:
    """A word of the model's lists: where it stands in the graph, its leaves, and whether it is a broader word."""

    synset: int
    leaves: tuple[int, ...]
    is_parent: bool = False


class KnownThings:
    """Anchors in the graph. For any thread.

    leaves: (L,) the synset of each; None if the graph lacks it. size: L. anchors: other words of the lists, which may
    hold several leaves. extra: synset -> synsets that the lists put above it, beside those of the graph.
    """

    def __init__(
        self,
        graph: NounGraph,
        leaves: Sequence[int | None],
        anchors: Sequence[Anchor] = (),
        extra: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self._graph, self.size, self._extra = graph, len(leaves), extra or {}
        self._above: dict[int, frozenset[int]] = {}
        own = [Anchor(synset, (leaf,)) for leaf, synset in enumerate(leaves) if synset is not None]
        self._named: dict[int, set[int]] = {}
        self._under: dict[int, set[int]] = {}
        listed: dict[int, set[int]] = {}
        for anchor in (*own, *anchors):
            listed.setdefault(anchor.synset, set()).update(anchor.leaves)
            if not anchor.is_parent:
                self._named.setdefault(anchor.synset, set()).update(anchor.leaves)
            for synset in self.above(anchor.synset):
                self._under.setdefault(synset, set()).update(anchor.leaves)
        # A word that is listed holds what is below it, unless the list left much of it to other words.
        self._bounds = {
            synset: found for synset, found in listed.items() if len(found) >= _BOUNDING * len(self._under[synset])
        }
        self._listed_leaves: dict[int, NDArray[np.intp]] = {}
        self._outsides: dict[int, NDArray[np.intp]] = {}
        self._information = np.array(
            [1.0 if synset is None else graph.information(synset) for synset in leaves], np.float32
        )

    def above(self, synset: int) -> frozenset[int]:
        """The synset and everything above it."""
        known = self._above.get(synset)
        if known is None:
            found, waiting = {synset}, [synset]
            while waiting:
                here = waiting.pop()
                new = {*self._graph.hypernyms(here), *self._extra.get(here, ())} - found
                found |= new
                waiting.extend(new)
            known = frozenset(found)
            if len(self._above) > _REMEMBERED:
                self._above = {}
            self._above[synset] = known
        return known

    def relation(self, synset: int) -> Relation:
        """How a meaning is related to the leaves."""
        if synset in self._under:
            return "broader"
        above = self.above(synset)
        if any(each in self._named for each in above):
            return "narrower"
        return "relative" if any(each in self._under for each in above) else "none"

    def familiarity(self, synset: int) -> float:
        """The part of what a meaning says that the leaves can express, 0 to 1: all, for one that has leaves below it.

        For others, that of the most specific meaning above it that has; "citrus", of a lime, where lemons are known.
        """
        if synset in self._under:
            return 1.0
        shared = max((self._graph.information(each) for each in self.above(synset) if each in self._under), default=0.0)
        return shared / max(self._graph.information(synset), shared, _LITTLE)

    def weights(self, synset: int) -> Floats:
        """(L,) of a meaning; see above."""
        found = self._own_weights(synset)
        for joint in self._joints.get(synset, ()):
            np.maximum(found, self._own_weights(joint), out=found)
        listed = [each for each in self.above(synset) if each in self._bounds]
        for each in listed:
            # Of listed words above each other the lowest counts: lists may put a crown elsewhere than under clothing.
            if not any(each != other and each in self.above(other) for other in listed):
                found[self._outside(each)] = 0.0
        found[found < LEAST] = 0.0
        return found

    def _own_weights(self, synset: int) -> Floats:
        """(L,) by what is above the meaning alone."""
        found = np.zeros(self.size, np.float32)
        own = self._graph.information(synset)
        for each in self.above(synset):
            shared = self._graph.information(each)
            # Lin's similarity is at most this, so that no weight is large enough to be kept.
            # The graph's root, above which nothing is, says nothing.
            if shared <= 0.0 or each not in self._under or 2.0 * shared / (own + shared) < _LEAST_SIMILARITY:
                continue
            leaves = self._leaves_under(each)
            similarity = np.minimum(2.0 * shared / (own + self._information[leaves]), 1.0)
            found[leaves] = np.maximum(found[leaves], RELATIVE * similarity.astype(np.float32) ** SHARPNESS)
            if each in self._named and not self._is_split(each, synset):
                named = list(self._named[each])
                found[named] = np.maximum(found[named], NARROWER * min(1.0, 2.0 * shared / (own + shared)))
        found[list(self._under.get(synset, ()))] = 1.0
        return found

    def _is_split(self, name: int, synset: int) -> bool:
        """Whether leaves tell apart what lies under a name, on the way down from it to a meaning."""
        between = (each for each in self.above(synset) if each != name and each in self._under)
        return any(name in self.above(each) for each in between)

    def _leaves_under(self, synset: int) -> NDArray[np.intp]:
        found = self._listed_leaves.get(synset)
        if found is None:
            found = self._listed_leaves[synset] = np.array(sorted(self._under[synset]), np.intp)
        return found

    def _outside(self, listed: int) -> NDArray[np.intp]:
        """The leaves that nothing below a listed word has."""
        found = self._outsides.get(listed)
        if found is None:
            found = self._outsides[listed] = np.setdiff1d(np.arange(self.size), list(self._bounds[listed]))
        return found

    @cached_property
    def _joints(self) -> dict[int, list[int]]:
        """Synset -> meanings below it with several above them: they may be near to a leaf by a way beside this one."""
        found: dict[int, list[int]] = {}
        for joint in sorted({*self._graph.joints(), *self._extra}):
            for each in self.above(joint) - {joint}:
                found.setdefault(each, []).append(joint)
        return found


_LITTLE = 1e-6
# Below it a relative's weight is left out; what is above a leaf has no less than `NARROWER` of it, or twice that.
_LEAST_SIMILARITY = (LEAST / RELATIVE) ** (1.0 / SHARPNESS)
_REMEMBERED = 16_384  # meanings whose broader ones are kept
_BOUNDING = 0.8  # part of the leaves under a listed word that must be its own

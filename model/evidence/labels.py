"""An identity -> the labels of a photographed region: what its tags, attributes and categories list.

Shapes: N = labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.colour import COLOURS
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.names import ROOT, EvidenceNames
from dynrefer.model.vocabulary import Attribute

Floats = NDArray[np.float32]

# The most that is given to what is not trusted of a photograph: a colour that is not said, and whatever the attribute
# head says beside colours, which was measured to be worth little.
UNPROVEN = 0.5


@dataclass(frozen=True, slots=True)
class Labels:
    """names and their probabilities (N,), not sorted."""

    names: tuple[str, ...]
    probabilities: Floats


def photograph_tags(identity: Identity, names: EvidenceNames) -> Labels:
    """Every name, the parents of names, and the colours.

    Of the names and of the colours, only the one that is said can have more than a half. "object" is a tag where it is
    all that can be said.
    """
    of_parents = names.parent_probability(identity.names).tolist()
    found = {parent.name: p for parent, p in zip(names.parents, of_parents, strict=True) if parent.name != ROOT}
    for entry, probability in zip(names.names, identity.names.tolist(), strict=True):
        found[entry.name] = max(found.get(entry.name, 0.0), probability)
    for colour, probability in _colours(identity).items():
        found[colour] = probability if colour == identity.colour else min(probability, UNPROVEN)
    found[identity.name] = max(identity.probability, found.get(identity.name, 0.0))
    return Labels(tuple(found), np.array(list(found.values()), dtype=np.float32))


def photograph_attributes(identity: Identity, attributes: Sequence[Attribute], network: Floats) -> Floats:
    """Probabilities (N,) of `attributes`: colours as they were measured, all else at most a half.

    network: (N,) the network's probabilities.
    """
    colours = _colours(identity)
    found = [
        colours.get(attribute.value, 0.0) if attribute.type == "color" else UNPROVEN * probability
        for attribute, probability in zip(attributes, network.tolist(), strict=True)
    ]
    return np.array(found, dtype=np.float32)


def _colours(identity: Identity) -> dict[str, float]:
    return dict(zip(COLOURS, identity.colours.tolist(), strict=True)) if len(identity.colours) else {}

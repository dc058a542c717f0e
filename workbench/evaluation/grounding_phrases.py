"""Phrases that mean exactly one object of a drawn scene, for measuring how well phrases are grounded.

A phrase tells its object apart by a colour, a size or its relation to a neighbour: its head alone ("the animal", "the
object") fits at least one other object too. Drawn scenes hold a category once, so heads are broader words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dynrefer.workbench.scenes.scene import Scene, SceneObject
from dynrefer.workbench.scenes.world import World

Kind = Literal["colour", "size", "relation"]
KINDS: tuple[Kind, ...] = ("colour", "size", "relation")
# What people call the objects of a supercategory. The others are no word for what they hold: "kitchen", "indoor", and
# "furniture", which holds plants.
_HEADS = {
    **{word: word for word in ("vehicle", "animal", "accessory", "food", "tool", "plant", "building")},
    "sports": "sports equipment",
    "electronic": "electronic device",
    "music": "musical instrument",
    "clothing": "piece of clothing",
}
_CONE = 0.75  # of the way to a neighbour lies along the axis that the relation names


@dataclass(frozen=True)
class ReferringPhrase:
    """text: means the object of index `target` of a scene, which differs from those that its head fits by `kind`."""

    text: str
    target: int
    kind: Kind


def referring_phrases(scene: Scene, world: World) -> list[ReferringPhrase]:
    """All phrases of a scene, at most one per object and kind; a function of the scene."""
    rng = np.random.default_rng(scene.seed)
    found = []
    for place, target in enumerate(scene.objects):
        kinds = ("object", _HEADS.get(world.category(target.category).supercategory))
        heads = [head for head in kinds if head and _rivals(scene, world, place, head)]
        if not heads:
            continue
        head = heads[int(rng.integers(len(heads)))]
        rivals = _rivals(scene, world, place, head)
        colour, size = target.attributes.get("color"), target.attributes.get("size")
        if colour and all(each.attributes.get("color") not in (colour, None) for each in rivals):
            found.append(ReferringPhrase(f"the {colour} {head}", place, "colour"))
        if size in ("small", "large") and all(each.attributes.get("size") not in (size, None) for each in rivals):
            found.append(ReferringPhrase(f"the {size} {head}", place, "size"))
        neighbour = scene.objects[target.neighbour]
        others = [each for each in rivals if each is not neighbour]
        if target.relation in _DIRECTIONS and not any(_placed(each, neighbour, target.relation) for each in others):
            found.append(ReferringPhrase(f"the {head} {target.relation} the {neighbour.category}", place, "relation"))
    return found


_DIRECTIONS = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1)}  # from it to the neighbour


def _rivals(scene: Scene, world: World, place: int, head: str) -> list[SceneObject]:
    """The other objects that a head fits."""
    others = [each for other, each in enumerate(scene.objects) if other != place]
    if head == "object":
        return others
    return [each for each in others if _HEADS.get(world.category(each.category).supercategory) == head]


def _placed(one: SceneObject, other: SceneObject, relation: str) -> bool:
    """Whether the way from one to the other points where the relation says, or nearly so."""
    off = _middle(other) - _middle(one)
    return float(off @ np.array(_DIRECTIONS[relation])) > (1 - _CONE) * float(np.hypot(*off))


def _middle(each: SceneObject) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    x1, y1, x2, y2 = each.box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2])

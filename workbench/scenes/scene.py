"""Synthetic scenes: icon artwork on drawn backgrounds, with exact boxes, names, attributes, relations and captions.

A scene is a pure function of (world, sprites, seed, split), and of the photographs where some serve as backgrounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dynrefer.workbench.scenes import scene_captions
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.backgrounds import draw_background
from dynrefer.workbench.scenes.colours import measure_colour, measure_tone
from dynrefer.workbench.scenes.layout import Canvas, Slot, arrange
from dynrefer.workbench.scenes.painting import Look, Posed, paint, pose_sprite
from dynrefer.workbench.scenes.photographs import PhotographPack, photograph_background
from dynrefer.workbench.scenes.world import Category, SceneKind, World

Split = Literal["train", "test", "heldout_pairs", "heldout_sprites", "unseen_style"]
SPLITS: tuple[Split, ...] = get_args(Split)
MIN_OBJECTS, MAX_OBJECTS = 3, 8
MIN_SIDE, MAX_SIDE = 160, 320  # pixels
_COUNT_PROBABILITIES = (0.19, 0.25, 0.18, 0.17, 0.11, 0.10)  # of 3, 4, ... 8 objects
_ATTEMPTS = 6  # at a look that the split allows, before the whole scene is drawn again
_EDGE = 24  # alpha, of 255, from which a pixel belongs to an object


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    box: xyxy, pixels of the scene's image, tight around the whole object including any covered part.
    attributes: type -> value, known ones only. relation: to the object of index `neighbour`, its nearest.
    scene: as of its `Scene`; where it is None, neither tags nor captions speak of a scene.
    heldout_pair, heldout_sprite: whether its (colour, category) or its sprite is withheld from training.
    """

    box: tuple[float, float, float, float]
    category: str
    sprite: str
    attributes: Mapping[str, str]
    relation: str
    neighbour: int
    scene: str | None
    tags: tuple[str, ...]
    captions: tuple[str, ...]
    heldout_pair: bool
    heldout_sprite: bool


@dataclass(frozen=True)
class Scene:
    """image: (H, W, 3) uint8 RGB. scene: the background's name, None for a photograph. seed: it was drawn with this.

    owner: (H, W) int8, the index of the object that a pixel shows, -1 for the background; an object owns what is
    covered by more than half of its opacity, and what lies in front of it takes its pixels over.
    """

    image: NDArray[np.uint8]
    scene: str | None
    objects: tuple[SceneObject, ...]
    seed: int
    owner: NDArray[np.int8]

    def visible(self, index: int) -> NDArray[np.bool_]:
        """The pixels that show the object, (H, W) bool."""
        return np.asarray(self.owner == index)


@dataclass(frozen=True)
class _Cast:
    """What a split draws from: categories with their sprites, and the colours that each category may have."""

    members: tuple[tuple[Category, tuple[str, ...]], ...]
    colours: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _PosedObject:
    """One object before it is placed."""

    category: Category
    sprite: str
    posed: Posed


_Photograph = Callable[[int, int], NDArray[np.uint8]]  # (width, height) -> a background


def draw_scene(
    world: World,
    sprites: SpritePack,
    seed: int,
    split: Split,
    photographs: PhotographPack | None = None,
    photograph_probability: float = 0.0,
) -> Scene:
    """Draw the scene of `seed` in `split`. `sprites`: the shipped pack, or for "unseen_style" that style's.

    photograph_probability: that the background is a part of one of `photographs`. The objects are those of the seed,
    nearly always at the same places; colours are measured on the new pixels, and a look that they rule out is redrawn.

    train, test: no held-out sprites and no held-out colour x category pairs. heldout_pairs: every object is a held-out
    pair. heldout_sprites, unseen_style: every object's sprite is held out, or of the evaluation-only style. Raises
    ValueError for a negative seed, an unknown split, sprites that include too few of the split's, or a
    photograph_probability outside [0, 1] or, without photographs, other than 0.
    """
    if seed < 0 or split not in SPLITS:
        raise ValueError(f"no scene of seed {seed} in split {split!r}: seeds are >= 0, splits are {', '.join(SPLITS)}")
    if not 0 <= photograph_probability <= (photographs is not None):
        raise ValueError(f"photograph_probability is {photograph_probability}: it is 0 to 1, without photographs 0")
    cast = _cast(world, sprites, split)
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    photograph: _Photograph | None = None
    if photographs is not None:
        own = np.random.default_rng((seed, SPLITS.index(split), 2))  # so that `rng` draws the same objects
        if own.random() < photograph_probability:
            photograph = partial(photograph_background, photographs, rng=own)
    while True:
        scene = _attempt(world, sprites, cast, seed, split, rng, photograph)
        if scene is not None:
            return scene


@lru_cache(maxsize=16)
def _cast(world: World, sprites: SpritePack, split: Split) -> _Cast:
    members = []
    for category in world.categories:
        if split == "unseen_style":
            names = category.unseen_sprites
        else:
            names = tuple(s for s in category.sprites if (s in world.heldout_sprites) == (split == "heldout_sprites"))
        names = tuple(name for name in names if name in sprites)
        if names:
            members.append((category, names))
    heldout = split == "heldout_pairs"
    colours = {
        category.name: tuple(c for c in world.colours if ((c, category.name) in world.heldout_pairs) == heldout)
        for category, _ in members
    }
    members = [(category, names) for category, names in members if colours[category.name]]
    if len(members) < MAX_OBJECTS:
        raise ValueError(f"the sprites given hold {len(members)} categories of split {split!r}: too few for a scene")
    return _Cast(tuple(members), colours)


def _attempt(
    world: World,
    sprites: SpritePack,
    cast: _Cast,
    seed: int,
    split: Split,
    rng: np.random.Generator,
    photograph: _Photograph | None,
) -> Scene | None:
    count = MIN_OBJECTS + int(rng.choice(len(_COUNT_PROBABILITIES), p=_COUNT_PROBABILITIES))
    width, height = (int(np.clip(rng.normal(224, 36), MIN_SIDE, MAX_SIDE)) for _ in range(2))
    subjects = [_pose(cast, sprites, int(i), rng) for i in rng.choice(len(cast.members), count, replace=False)]
    slots = None
    for _ in range(_ATTEMPTS):
        slots = slots or arrange([a.posed.image for a in subjects], Canvas(width, height), rng)
    if slots is None:
        return None
    drawn_kind = world.scene_kinds[int(rng.integers(len(world.scene_kinds)))]
    image = draw_background(
        drawn_kind.name, width, height, rng
    )  # in any case: the objects' looks come after it in `rng`
    kind = drawn_kind if photograph is None else None
    if photograph is not None:
        image = photograph(width, height)
    objects: dict[int, SceneObject] = {}
    owner = np.full((height, width), -1, dtype=np.int8)
    for index in sorted(range(count), key=lambda i: slots[i].layer):
        slot = slots[index]
        drawn = _draw_object(world, cast, subjects[index], slot, kind, image, split, rng)
        if drawn is None:
            return None
        objects[index], body = drawn
        owner[slot.y : slot.y + slot.height, slot.x : slot.x + slot.width][body] = index
    return Scene(image, kind.name if kind else None, tuple(objects[i] for i in range(count)), seed, owner)


def _pose(cast: _Cast, sprites: SpritePack, index: int, rng: np.random.Generator) -> _PosedObject:
    category, names = cast.members[index]
    sprite = names[int(rng.integers(len(names)))]
    return _PosedObject(category, sprite, pose_sprite(sprites[sprite], category.posed, rng))


def _look(
    category: Category, colours: tuple[str, ...], must_tint: bool, overlapping: bool, rng: np.random.Generator
) -> Look:
    """A random look. Overlapping objects stay opaque, so that it is clear which is in front."""
    tint = colours[int(rng.integers(len(colours)))] if must_tint or rng.random() < 0.62 else None
    choice, light, veil, ink = rng.random(4)
    pattern: Literal["plain", "striped", "dotted"] = "plain"
    if not category.patterned and not must_tint:
        pattern = "striped" if choice < 0.14 else "dotted" if choice < 0.28 else "plain"
    gain = float(rng.uniform(0.38, 0.5)) if light < 0.16 and tint != "black" else 1.0
    if light > 0.94:
        gain = float(rng.uniform(1.3, 1.5))
    if must_tint:
        gain = 1.0
    opacity = float(rng.uniform(0.42, 0.55)) if veil < 0.12 and not overlapping and not must_tint else 1.0
    return Look(tint, gain, pattern, opacity, outlined=ink < 0.2)


def _draw_object(
    world: World,
    cast: _Cast,
    subject: _PosedObject,
    slot: Slot,
    kind: SceneKind | None,
    image: NDArray[np.uint8],
    split: Split,
    rng: np.random.Generator,
) -> tuple[SceneObject, NDArray[np.bool_]] | None:
    """Paint an object onto `image`; with it which pixels of its slot it covers, (height, width) bool. None if no look
    was found that the split allows."""
    colours = cast.colours[subject.category.name]
    window = image[slot.y : slot.y + slot.height, slot.x : slot.x + slot.width]
    for attempt in range(_ATTEMPTS):
        must_tint = split == "heldout_pairs" or attempt > 1
        look = _look(subject.category, colours, must_tint, slot.relation in ("in front of", "behind"), rng)
        pixels = paint(subject.posed.image, (slot.width, slot.height), look, rng)
        blend = pixels[..., 3:].astype(np.float32) / 255
        final = (window + blend * (pixels[..., :3] - window.astype(np.float32))).astype(np.uint8)
        body = pixels[..., 3] > 0.5 * 255 * look.opacity
        colour = measure_colour(final, body)
        if colour is None and split == "heldout_pairs":
            continue
        if colour is not None and colour not in colours:
            continue
        window[:] = final
        tone = measure_tone(final, body)
        box = _tight_box(pixels[..., 3] >= min(_EDGE, 60 * look.opacity), slot)
        attributes = _attributes(subject, look, colour, tone, _size_word(box, image.shape))
        return _describe(world, subject, attributes, slot, kind, box), body
    return None


def _attributes(
    subject: _PosedObject, look: Look, colour: str | None, tone: str | None, size: str | None
) -> dict[str, str]:
    """type -> value, known ones only. Artwork with a pattern of its own leaves the pattern unknown."""
    found = {
        "color": colour,
        "size": size,
        "pose": subject.posed.pose,
        "tone": tone,
        "pattern": None if subject.category.patterned else look.pattern,
        "optical": "transparent" if look.opacity < 1 else "opaque",
    }
    return {kind: value for kind, value in found.items() if value is not None}


def _size_word(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> str | None:
    """Small, medium or large, from the larger of width and height relative to the image; None in the gaps."""
    extent = max((box[2] - box[0]) / shape[1], (box[3] - box[1]) / shape[0])
    if extent < 0.165:
        return "small"
    if extent > 0.31:
        return "large"
    return "medium" if 0.195 <= extent <= 0.275 else None


def _tight_box(visible: NDArray[np.bool_], slot: Slot) -> tuple[float, float, float, float]:
    columns, rows = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    if not len(columns):
        return (float(slot.x), float(slot.y), float(slot.x + slot.width), float(slot.y + slot.height))
    left, right, top, bottom = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    return (float(slot.x + left), float(slot.y + top), float(slot.x + right), float(slot.y + bottom))


def _describe(
    world: World,
    subject: _PosedObject,
    attributes: dict[str, str],
    slot: Slot,
    kind: SceneKind | None,
    box: tuple[float, float, float, float],
) -> SceneObject:
    category = subject.category
    return SceneObject(
        box=box,
        category=category.name,
        sprite=subject.sprite,
        attributes=attributes,
        relation=slot.relation,
        neighbour=slot.neighbour,
        scene=kind.name if kind else None,
        tags=scene_captions.tags(category, attributes, slot.relation, kind, world.neutral),
        captions=scene_captions.captions(category, attributes, slot.relation, kind),
        heldout_pair=(attributes.get("color"), category.name) in world.heldout_pairs,
        heldout_sprite=subject.sprite in world.heldout_sprites,
    )

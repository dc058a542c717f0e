"""The drawn world: its categories, attributes, relations and artwork, and what is held out from training.

All of it is data in `world.json`, which this module reads into frozen records and checks. `World.digest` identifies the
world that a model was trained and measured on: it covers the file's bytes and, through the digest in the file, the
sprite pack.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent


class WorldError(ValueError):
    """`world.json` is inconsistent; the message names the entry."""


@dataclass(frozen=True)
class Category:
    """A kind of object.

    article: "a" (also for "an"), "a pair of", or "" for plurals.
    posed: whether upright, tilted and upside-down look different (not for balls or tools drawn diagonally).
    patterned: whether its artwork has a pattern of its own, so that "plain" would be wrong.
    sprites, unseen_sprites: sprite ids "style/icon" that ship, and those of the evaluation-only style.
    """

    name: str
    coco: bool
    supercategory: str
    synonyms: tuple[str, ...]
    sprites: tuple[str, ...]
    unseen_sprites: tuple[str, ...]
    article: str = "a"
    posed: bool = True
    patterned: bool = False


@dataclass(frozen=True)
class Attribute:
    """An attribute as in OVAD: name "type:value", and the synonyms and the template ("is" or "has") of its prompts."""

    name: str
    type: str
    synonyms: tuple[str, ...]
    template: str

    @property
    def value(self) -> str:
        """The part of the name after the colon."""
        return self.name.partition(":")[2]


@dataclass(frozen=True)
class ArtPackage:
    """One style of artwork: a pinned npm package with its stated licence."""

    style: str
    package: str
    version: str
    licence: str
    author: str
    source: str
    shipped: bool


@dataclass(frozen=True)
class SceneKind:
    """A background: its name, and the phrase with that name that is used in captions."""

    name: str
    phrase: str


class HasAttributes(Protocol):
    """An object with known attributes, for `World.attribute_targets`."""

    @property
    def attributes(self) -> Mapping[str, str]:
        """type -> value, known ones only."""
        ...


@dataclass(frozen=True, eq=False)
class World:
    """The world as data; compare worlds by `digest`.

    neutral: type -> values that are known but have no attribute (a medium size is neither small nor large).
    heldout_pairs: (colour, category name), never drawn in training. heldout_sprites: sprite ids, likewise.
    """

    categories: tuple[Category, ...]
    attributes: tuple[Attribute, ...]
    colours: tuple[str, ...]
    relations: tuple[str, ...]
    scene_kinds: tuple[SceneKind, ...]
    neutral: Mapping[str, tuple[str, ...]]
    heldout_pairs: frozenset[tuple[str, str]]
    heldout_sprites: frozenset[str]
    art: tuple[ArtPackage, ...]
    sprite_pack_sha256: str
    digest: str
    tags: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", _tags(self))
        _validate(self)

    @property
    def scenes(self) -> tuple[str, ...]:
        """The names of the backgrounds."""
        return tuple(kind.name for kind in self.scene_kinds)

    @classmethod
    def load(cls, path: Path | None = None) -> World:
        """Read and check `path`, by default the committed `world.json`. Raises `WorldError`, naming the entry."""
        raw = (path or HERE / "world.json").read_bytes()
        try:
            return _parse(json.loads(raw), hashlib.sha256(raw).hexdigest())
        except (KeyError, TypeError) as error:
            raise WorldError(f"world.json: missing or unknown entry: {error}") from error

    def category(self, name: str) -> Category:
        """The category called `name`. Raises KeyError if there is none."""
        for category in self.categories:
            if category.name == name:
                return category
        raise KeyError(name)

    def without(self, names: Collection[str]) -> World:
        """The same world, in which there is nothing of these categories."""
        kept = tuple(category for category in self.categories if category.name not in names)
        sprites = {sprite for category in kept for sprite in category.sprites}
        return replace(
            self,
            categories=kept,
            heldout_pairs=frozenset(pair for pair in self.heldout_pairs if pair[1] not in names),
            heldout_sprites=self.heldout_sprites & sprites,
            digest=hashlib.sha256("\n".join((self.digest, *sorted(names))).encode()).hexdigest(),
        )

    def attribute_targets(self, obj: HasAttributes) -> NDArray[np.int8]:
        """Targets in the order of `attributes`, (A,) int8: 1 positive, 0 negative, -1 where `obj` lacks the type."""
        known = obj.attributes
        targets = [int(known[a.type] == a.value) if a.type in known else -1 for a in self.attributes]
        return np.array(targets, dtype=np.int8)


# Default values: they are attribute labels, but neither tags nor words of a caption.
UNSAID = frozenset({"upright", "plain", "opaque"})


def _parse(data: dict[str, Any], digest: str) -> World:
    categories = tuple(_category(entry) for entry in data["categories"])
    attributes = tuple(Attribute(a["name"], a["type"], tuple(a["synonyms"]), a["template"]) for a in data["attributes"])
    return World(
        categories=categories,
        attributes=attributes,
        colours=tuple(data["colours"]),
        relations=tuple(data["relations"]),
        scene_kinds=tuple(SceneKind(**kind) for kind in data["scenes"]),
        neutral={kind: tuple(values) for kind, values in data["neutral"].items()},
        heldout_pairs=frozenset((colour, name) for colour, name in data["heldout_pairs"]),
        heldout_sprites=frozenset(data["heldout_sprites"]),
        art=tuple(ArtPackage(**package) for package in data["art"]),
        sprite_pack_sha256=data["sprite_pack_sha256"],
        digest=digest,
    )


def _category(entry: dict[str, Any]) -> Category:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Category(**fields)


def _tags(world: World) -> tuple[str, ...]:
    names = [category.name for category in world.categories]
    supercategories = sorted({category.supercategory for category in world.categories})
    states = [a.value for a in world.attributes if a.type != "color" and a.value not in UNSAID]
    return (*names, *supercategories, *world.colours, *states, *world.scenes, *world.relations)


def _validate(world: World) -> None:
    _refuse_twice("tag", world.tags)
    _refuse_twice("sprite", [s for c in world.categories for s in (*c.sprites, *c.unseen_sprites)])
    names = {category.name for category in world.categories}
    for colour, name in world.heldout_pairs:
        if colour not in world.colours or name not in names:
            raise WorldError(f"heldout_pairs: no such pair as {colour} {name}")
    for category in world.categories:
        if not set(category.sprites) - world.heldout_sprites:
            raise WorldError(f"category {category.name}: no sprite is left for training")
    unknown = world.heldout_sprites - {s for c in world.categories for s in c.sprites}
    if unknown:
        raise WorldError(f"heldout_sprites: not a sprite of any category: {sorted(unknown)[0]}")
    for attribute in world.attributes:
        if attribute.name != f"{attribute.type}:{attribute.value}" or attribute.template not in ("is", "has"):
            raise WorldError(f"attribute {attribute.name}: its name is not type:value, or its template is unknown")
    for kind in world.scene_kinds:
        if kind.name not in kind.phrase:
            raise WorldError(f"scene {kind.name}: its phrase does not hold its name")


def _refuse_twice(what: str, names: tuple[str, ...] | list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise WorldError(f"{what} {name!r} is there twice")
        seen.add(name)

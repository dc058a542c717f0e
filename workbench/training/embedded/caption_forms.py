"""What the language model is asked and what it answers in training: control words, and the caption they belong to.

Two families of forms. In the paper's, the caption holds the noun, and control words are drawn from caption and tags. In
the others a placeholder stands for the noun, first among the control words and once in the caption, so that any name
can be put in afterwards; the full one says all that the region shows, the short one, closed by "." and "|", exactly the
words it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dynrefer.workbench.scenes.scene import SceneObject
from dynrefer.workbench.scenes.scene_captions import short_caption, spoken_adjectives
from dynrefer.workbench.scenes.world import UNSAID, Category, SceneKind, World
from dynrefer.workbench.scenes.world_vocabulary import NOUN_PLACEHOLDER

_WITH_NOUN = 0.25  # of the samples; without them the model would forget to write nouns
_SHORT = 0.4  # of the others
_NO_TAGS = 0.05  # of the full forms
_DROPPED = 0.15  # of the tags
_WITHOUT_SUPERCATEGORY = 0.5
# Tags of an answer are predicted: some are missing, a few are wrong.
_PREDICTED, _MISSED, _MISTAKEN = 0.6, 0.08, 0.05
# Short forms: adjectives that are not the region's, else the words have no say against what it shows.
_INVENTED, _ADJECTIVE, _SCENE = 0.7, 0.5, 0.3
_INVENTED_TYPES = ("color", "size", "pattern")

_STOP = frozenset(["a", "an", "the", "of", "on", "in", "at", "to", "by", "is", "with", "and", "another", "object"])


def control_words(caption: str, tags: Sequence[str], rng: np.random.Generator) -> str:
    """Control words for the language model: words of the caption and the tags, closed with "|".

    All are dropped with probability 0.5, otherwise each with probability 0.5; the rest is shuffled (paper, section 3.3,
    and the official training code).
    """
    words = [word for word in re.findall(r"[a-z-]+", caption) if word not in _STOP]
    words = list(dict.fromkeys([*words, *tags]))
    if rng.random() < 0.5:
        return "|"
    kept = [word for word in words if rng.random() >= 0.5]
    rng.shuffle(kept)
    return ",".join(kept) + "|"


def draw_form(obj: SceneObject, caption: str, world: World, rng: np.random.Generator) -> tuple[str, str]:
    """Control words and caption in a random form; `caption`: one of the object's own."""
    if rng.random() < _WITH_NOUN:
        return control_words(caption, obj.tags, rng), caption
    if rng.random() < _SHORT:
        return short_form(obj, world, rng)
    return full_form(obj, caption, world, rng)


def full_form(obj: SceneObject, caption: str, world: World, rng: np.random.Generator) -> tuple[str, str]:
    """The placeholder and the tags as an answer would pass them on; the caption with the placeholder for its noun."""
    tags = [] if rng.random() < _NO_TAGS else _observed_tags(obj, world, rng)
    return ",".join((NOUN_PLACEHOLDER, *tags)) + "|", placeholder_caption(caption, world.category(obj.category), obj)


def short_form(obj: SceneObject, world: World, rng: np.random.Generator) -> tuple[str, str]:
    """The placeholder and a few words; a caption that says them and nothing else."""
    invented = rng.random() < _INVENTED
    adjectives = _invented_adjectives(world, rng) if invented else spoken_adjectives(obj.attributes)
    said = {kind: word for kind, word in adjectives.items() if rng.random() < _ADJECTIVE}
    scene = None
    if rng.random() < _SCENE:
        scene = world.scene_kinds[int(rng.integers(len(world.scene_kinds)))] if invented else _kind(world, obj.scene)
    words = [*said.values(), *([scene.name] if scene else [])]
    rng.shuffle(words)
    return ",".join((NOUN_PLACEHOLDER, *words)) + ".|", short_caption(_anything(world), said, scene)


def placeholder_caption(caption: str, category: Category, obj: SceneObject) -> str:
    """One of the object's captions with the placeholder in place of its noun, and "a" or "an" as the article."""
    adjectives = "|".join(re.escape(word) for word in spoken_adjectives(obj.attributes).values())
    article = "an? " if category.article == "a" else f"{category.article} ".lstrip()
    pattern = rf"(?<![\w-]){article}((?:(?:{adjectives}) )*){re.escape(category.name)}(?![\w-])"

    def phrase(found: re.Match[str]) -> str:
        said: str = found.group(1) if adjectives else ""
        return f"{'an' if said[:1] in tuple('aeiou') else 'a'} {said}{NOUN_PLACEHOLDER}"

    return re.sub(pattern, phrase, caption, count=1)


def _observed_tags(obj: SceneObject, world: World, rng: np.random.Generator) -> list[str]:
    """The object's tags without its name, in random order: true ones, or with the mistakes of predicted ones."""
    unsaid = {obj.category}
    if rng.random() < _WITHOUT_SUPERCATEGORY:
        unsaid.add(world.category(obj.category).supercategory)
    kept = [tag for tag in obj.tags if tag not in unsaid]
    if rng.random() < _PREDICTED:
        kept = [_mistaken(tag, world, rng) for tag in kept if rng.random() >= _MISSED]
    kept = [tag for tag in dict.fromkeys(kept) if rng.random() >= _DROPPED]
    rng.shuffle(kept)
    return kept


def _mistaken(tag: str, world: World, rng: np.random.Generator) -> str:
    """The tag, or rarely another of its kind."""
    states = tuple(a.value for a in world.attributes if a.type != "color" and a.value not in UNSAID)
    for kind in (world.colours, states, world.scenes, world.relations):
        if tag in kind and rng.random() < _MISTAKEN:
            return kind[int(rng.integers(len(kind)))]
    return tag


def _invented_adjectives(world: World, rng: np.random.Generator) -> Mapping[str, str]:
    return {
        kind: values[int(rng.integers(len(values)))]
        for kind in _INVENTED_TYPES
        if (values := _said_values(world, kind))
    }


def _said_values(world: World, kind: str) -> list[str]:
    neutral = world.neutral.get(kind, ())
    return [a.value for a in world.attributes if a.type == kind and a.value not in UNSAID and a.value not in neutral]


def _kind(world: World, scene: str | None) -> SceneKind | None:
    return next((kind for kind in world.scene_kinds if kind.name == scene), None)


def _anything(world: World) -> Category:
    """A category that is called by the placeholder, with "a" as its article."""
    return replace(world.categories[0], name=NOUN_PLACEHOLDER, article="a")

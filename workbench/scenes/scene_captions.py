"""Reference captions and tags of a drawn object."""

from __future__ import annotations

from collections.abc import Mapping

from dynrefer.workbench.scenes.world import UNSAID, Category, SceneKind

MAX_WORDS = 16
# Attribute types that become adjectives, in word order; the droppable ones are left out first in long captions.
_SPOKEN = ("size", "pose", "optical", "tone", "color", "pattern")
_DROPPABLE = ("tone", "optical", "pose", "pattern")


def captions(category: Category, attributes: Mapping[str, str], relation: str, scene: SceneKind) -> tuple[str, ...]:
    """Three wordings of the same facts: lower case, 6 to 16 words; the neighbour is always "another object"."""
    words = _adjectives(attributes)
    fixed = len(f"{category.article} {category.name} to the {relation} another object {scene.phrase}".split())
    for kind in _DROPPABLE:
        if fixed + len(words) > MAX_WORDS:
            words.pop(kind, None)
    noun = _noun_phrase(category, list(words.values()))
    # The longer form exists for left and right only: "to the above" is not English.
    spoken = f"to the {relation}" if relation in ("left of", "right of") else relation
    return (
        f"{noun} {relation} another object {scene.phrase}",
        f"{noun} {scene.phrase} {relation} another object",
        f"{scene.phrase} {noun} {spoken} another object",
    )


def tags(
    category: Category,
    attributes: Mapping[str, str],
    relation: str,
    scene: str,
    neutral: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """Category, supercategory, attribute values, scene and relation; all are members of `World.tags`."""
    states = [v for kind, v in attributes.items() if v not in UNSAID and v not in neutral.get(kind, ())]
    return (category.name, category.supercategory, *states, scene, relation)


def _adjectives(attributes: Mapping[str, str]) -> dict[str, str]:
    words = {kind: attributes[kind] for kind in _SPOKEN if kind in attributes}
    if words.get("color") in ("black", "white", "gray") or words.get("tone") == "medium":
        words.pop("tone", None)  # nobody says "a dark black dog"
    return {kind: word for kind, word in words.items() if word not in UNSAID and word != "medium"}


def _noun_phrase(category: Category, adjectives: list[str]) -> str:
    phrase = " ".join([*adjectives, category.name])
    if category.article == "a" and phrase[0] in "aeiou" and not phrase.startswith("upright"):
        return f"an {phrase}"
    return f"{category.article} {phrase}".strip()

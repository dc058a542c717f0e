"""Reference captions and tags of a drawn object."""

from __future__ import annotations

from collections.abc import Mapping

from dynrefer.workbench.scenes.world import UNSAID, Category, SceneKind

MAX_WORDS = 16
# Attribute types that become adjectives, in word order; the droppable ones are left out first in long captions.
_SPOKEN = ("size", "pose", "optical", "tone", "color", "pattern")
_DROPPABLE = ("tone", "optical", "pose", "pattern")


def captions(
    category: Category, attributes: Mapping[str, str], relation: str, scene: SceneKind | None
) -> tuple[str, ...]:
    """Wordings of the same facts: lower case, at most 16 words; the neighbour is always "another object".

    Three of 6 words or more. Without a scene, of 4 or more: three where the relation has a longer form, else two.
    """
    words = _adjectives(attributes)
    place = scene.phrase if scene else ""
    fixed = len(f"{category.article} {category.name} to the {relation} another object {place}".split())
    for kind in _DROPPABLE:
        if fixed + len(words) > MAX_WORDS:
            words.pop(kind, None)
    noun = _noun_phrase(category, list(words.values()))
    # The longer form exists for left and right only: "to the above" is not English.
    spoken = f"to the {relation}" if relation in ("left of", "right of") else relation
    if scene is None:
        wordings = (
            f"{noun} {relation} another object",
            f"{relation} another object {noun}",
            f"{noun} {spoken} another object",
        )
        return tuple(dict.fromkeys(wordings))
    return (
        f"{noun} {relation} another object {place}",
        f"{noun} {place} {relation} another object",
        f"{place} {noun} {spoken} another object",
    )


def tags(
    category: Category,
    attributes: Mapping[str, str],
    relation: str,
    scene: SceneKind | None,
    neutral: Mapping[str, tuple[str, ...]],
) -> tuple[str, ...]:
    """Category, supercategory, attribute values, the scene if known, relation; all are members of `World.tags`."""
    states = [v for kind, v in attributes.items() if v not in UNSAID and v not in neutral.get(kind, ())]
    return (category.name, category.supercategory, *states, *([scene.name] if scene else []), relation)


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


def spoken_adjectives(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attribute type -> the adjective that captions use for it; types of which nothing is said are left out."""
    return _adjectives(attributes)


def short_caption(category: Category, adjectives: Mapping[str, str], scene: SceneKind | None) -> str:
    """A noun phrase with these adjectives (type -> word), and the scene's phrase if one is given; nothing else."""
    noun = _noun_phrase(category, [adjectives[kind] for kind in _SPOKEN if kind in adjectives])
    return f"{noun} {scene.phrase}" if scene else noun

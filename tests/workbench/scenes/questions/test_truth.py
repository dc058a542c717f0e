"""Answers are true: looked up again in the scene, by rules of the test's own."""

from __future__ import annotations

import re

import pytest

from dynrefer.model.points import PointPrompt
from dynrefer.model.prompts import Scribble
from dynrefer.workbench.scenes.questions.names import (
    GROUPS,
    NUMBERS,
    answer_words,
    spoken_name,
    spoken_synonyms,
)
from dynrefer.workbench.scenes.questions.pointing import pointing_form
from dynrefer.workbench.scenes.questions.records import Kind, Says
from dynrefer.workbench.scenes.scene import Scene, SceneObject
from dynrefer.workbench.scenes.world import World
from tests.workbench.scenes.questions.conftest import Asked

Box = tuple[float, float, float, float]
_OBJECT = r"(?:the object (?:in|at) )?<region:\w+>|the [\w -]+?"
_PATTERNS = {
    "x": _OBJECT,
    "y": _OBJECT,
    "relation": "(?:to the )?(?:left|right) of|above|below|in front of|behind",
    "more": "larger|bigger|smaller",
}


def _all(asked: dict[str, list[Asked]]) -> list[Asked]:
    return [each for questions in asked.values() for each in questions]


def _text(each: Asked) -> str:
    return each.question.conversation.question


def _meant(each: Asked, words: str, world: World) -> SceneObject | None:
    """The object that words of a question mean: those of a region, or the only one that they fit."""
    region = re.search(r"<region:(\w+)>", words)
    if region:
        names = [given.id for given in each.question.conversation.regions]
        return each.scene.objects[each.question.region_objects[names.index(region[1])]]
    fits = [shown for shown in each.scene.objects if _fits(shown, words.lower().removeprefix("the "), world)]
    return fits[0] if len(fits) == 1 else None


def _fits(shown: SceneObject, words: str, world: World) -> bool:
    first, _, rest = words.partition(" ")
    if first in world.colours:
        return shown.attributes.get("color") == first and (rest in ("object", "objects") or _fits(shown, rest, world))
    category = world.category(shown.category)
    if words in (spoken_name(category), *spoken_synonyms(category)):
        return True
    return any(words in (group.word, group.plural) and shown.category in group.members for group in GROUPS)


def _slots(each: Asked, *names: str) -> list[str]:
    """What the question puts in the place of its form's slots."""
    pattern = re.sub(
        r"\\\{(\w+)\\\}",
        lambda found: f"(?P<{found[1]}>{_PATTERNS.get(found[1], '.+?')})",
        re.escape(each.question.form),
    )
    found = re.fullmatch(pattern, _text(each), re.IGNORECASE)
    if found is None:  # written without a final mark
        found = re.fullmatch(pattern, _text(each) + each.question.form[-1], re.IGNORECASE)
    assert found is not None, each.question
    return [found[name] for name in names]


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _is(relation: str, one: SceneObject, other: SceneObject, scene: Scene) -> bool:
    if relation in ("in front of", "behind"):
        return scene.objects[one.neighbour] is other and one.relation == relation
    (x1, y1), (x2, y2) = _centre(one.box), _centre(other.box)
    return {"left of": x1 < x2, "right of": x1 > x2, "above": y1 < y2, "below": y1 > y2}[relation]


def _aligned(relation: str, one: SceneObject, other: SceneObject, scene: Scene) -> bool:
    """Whether their middles are as good as equal along the relation's axis."""
    axis = 0 if relation in ("left of", "right of") else 1
    return bool(abs(_centre(one.box)[axis] - _centre(other.box)[axis]) <= 0.03 * scene.image.shape[1 - axis])


def test_spans_are_names_with_the_boxes_of_their_objects(asked: dict[str, list[Asked]], world: World) -> None:
    for each in _all(asked):
        for span, index in zip(each.question.spans, each.question.objects, strict=True):
            shown = each.scene.objects[index]
            assert each.question.answer[slice(*span.span)] == spoken_name(world.category(shown.category))
            assert span.box == shown.box


def test_words_of_answers_are_few(asked: dict[str, list[Asked]], world: World) -> None:
    known = set(answer_words(world))
    assert len(known) < 150
    for each in _all(asked):
        if each.question.kind is Kind.CHOICE:
            continue
        rest = each.question.answer
        for span in reversed(each.question.spans):
            rest = rest[: span.span[0]] + rest[span.span[1] :]
        assert set(re.findall(r"[a-z]+", rest.lower())) <= known, each.question.answer


def test_regions_show_their_objects(asked: dict[str, list[Asked]]) -> None:
    forms = set()
    for each in _all(asked):
        for region, index in zip(each.question.conversation.regions, each.question.region_objects, strict=True):
            pointed = each.question.pointed[region.id]
            forms.add(pointing_form(pointed))
            x1, y1, x2, y2 = each.scene.objects[index].box
            a1, b1, a2, b2 = region.query.box
            if isinstance(pointed, PointPrompt):
                assert each.scene.visible(index)[int(pointed.y), int(pointed.x)]
            elif isinstance(pointed, Scribble):
                assert x1 <= a1 and a2 <= x2 and y1 <= b1 and b2 <= y2
            else:
                shared = max(0.0, min(a2, x2) - max(a1, x1)) * max(0.0, min(b2, y2) - max(b1, y1))
                assert shared / ((a2 - a1) * (b2 - b1) + (x2 - x1) * (y2 - y1) - shared) > 0.6
    assert forms == {"box", "point", "scribble"}


def test_what_is_said_of_one_object_is_its_own(asked: dict[str, list[Asked]]) -> None:
    attributes = {Says.COLOUR: "color", Says.SIZE: "size"}
    seen = set()
    for each in _all(asked):
        question = each.question
        if question.says in attributes:
            shown = each.scene.objects[question.subject or 0]
            assert question.truth == (shown.attributes[attributes[question.says]],)
            assert question.answer == f"It is {question.truth[0]}."
            seen.add(question.says)
        if question.says is Says.DESCRIPTION:
            shown = each.scene.objects[question.subject or 0]
            assert question.truth[0] == shown.category
            assert (shown.attributes.get("color") or "") == question.truth[1]
            assert question.truth[1] in question.answer
            seen.add(question.says)
        if question.says is Says.POSITION:
            x, y = _centre(each.scene.objects[question.subject or 0].box)
            x, y = x / each.scene.image.shape[1], y / each.scene.image.shape[0]
            words = question.truth[0].split()
            assert ("left" in words) == (x < 1 / 3) and ("right" in words) == (x > 2 / 3)
            assert ("top" in words) == (y < 1 / 3) and ("bottom" in words) == (y > 2 / 3)
            assert question.truth[0] in question.answer
            seen.add(question.says)
    assert len(seen) == 4


def test_words_mean_the_object_that_is_asked_about(asked: dict[str, list[Asked]], world: World) -> None:
    checked = 0
    for each in _all(asked):
        if each.question.kind in (Kind.COLOUR, Kind.SIZE, Kind.POSITION, Kind.WHERE):
            (words,) = _slots(each, "x")
            assert _meant(each, words, world) is each.scene.objects[each.question.subject or 0], each.question
            checked += 1
        if each.question.kind is Kind.ABSENT:
            (words,) = _slots(each, "x")
            assert not any(_fits(shown, words.removeprefix("the "), world) for shown in each.scene.objects)
    assert checked > 100


@pytest.mark.parametrize("kind", [Kind.COUNT, Kind.LISTING_SOME, Kind.LISTING, Kind.SEVERAL])
def test_counts_and_lists_hold_all_that_the_words_fit(asked: dict[str, list[Asked]], world: World, kind: Kind) -> None:
    for each in _all(asked):
        question = each.question
        if question.kind is not kind:
            continue
        if kind is Kind.SEVERAL:
            assert question.objects == question.region_objects
            continue
        (things,) = ("objects",) if kind is Kind.LISTING else _slots(each, "things")
        things = things.lower()
        fits = [shown for shown in each.scene.objects if things == "objects" or _fits(shown, things, world)]
        if kind is Kind.COUNT:
            assert question.answer == f"{NUMBERS[len(fits)].capitalize()}."
            continue
        listed = [each.scene.objects[index] for index in question.objects]
        assert listed == sorted(fits, key=lambda shown: (shown.box[1], shown.box[0]))
        assert question.truth == tuple(shown.category for shown in listed)


def test_existence_is_as_the_scene_has_it(asked: dict[str, list[Asked]], world: World) -> None:
    for each in _all(asked):
        if each.question.kind is Kind.EXISTENCE:
            (thing,) = _slots(each, "thing")
            words = re.sub("^an? ", "", thing.lower())
            fits = [index for index, shown in enumerate(each.scene.objects) if _fits(shown, words, world)]
            assert each.question.truth[0] == ("yes" if fits else "no")
            assert sorted(each.question.objects) == fits


def test_comparisons_hold_between_the_boxes(asked: dict[str, list[Asked]], world: World) -> None:
    checked = {kind: 0 for kind in (Kind.RELATION, Kind.RELATION_YES_NO, Kind.LARGER, Kind.LARGER_YES_NO)}
    for each in _all(asked):
        kind = each.question.kind
        if kind not in checked:
            continue
        one, other = (_meant(each, words, world) for words in _slots(each, "x", "y"))
        assert one is not None and other is not None
        areas = [(shown.box[2] - shown.box[0]) * (shown.box[3] - shown.box[1]) for shown in (one, other)]
        if kind is Kind.RELATION:
            assert _is(each.question.truth[0], one, other, each.scene)
        elif kind is Kind.RELATION_YES_NO:
            (relation,) = _slots(each, "relation")
            relation = relation.replace("to the ", "")
            if each.question.truth[0] == "yes":
                assert _is(relation, one, other, each.scene)
            else:
                assert not _is(relation, one, other, each.scene) or _aligned(relation, one, other, each.scene)
        else:
            (more,) = _slots(each, "more")
            bigger = areas[0] > 1.4 * areas[1]
            first = bigger if more != "smaller" else not bigger
            assert bigger or areas[1] > 1.4 * areas[0]
            right = (one if first else other).category if kind is Kind.LARGER else "yes" if first else "no"
            assert each.question.truth == (right,)
        checked[kind] += 1
    assert all(checked.values())


def test_what_is_beside_or_extreme_is_the_only_one(asked: dict[str, list[Asked]], world: World) -> None:
    axes = {"leftmost": (0, min), "rightmost": (0, max), "topmost": (1, min), "lowest": (1, max)}
    for each in _all(asked):
        objects = each.scene.objects
        if each.question.kind is Kind.BESIDE:
            words, relation = _slots(each, "y", "relation")
            other, right = _meant(each, words, world), objects[each.question.subject or 0]
            assert other is not None and other is not right
            assert _is(relation.replace("to the ", ""), right, other, each.scene)
        if each.question.kind is Kind.EXTREME:
            (most,) = _slots(each, "most")
            if most.lower() in axes:
                axis, best = axes[most.lower()]
                assert best(objects, key=lambda shown: _centre(shown.box)[axis]) is objects[each.question.subject or 0]


def test_two_objects_are_alike_where_the_answer_is_yes(asked: dict[str, list[Asked]], world: World) -> None:
    seen = set()
    for each in _all(asked):
        question = each.question
        if question.kind not in (Kind.SAME_COLOUR, Kind.SAME_GROUP, Kind.SAME_OBJECT):
            continue
        one, other = (_meant(each, words, world) for words in _slots(each, "x", "y"))
        assert one is not None and other is not None
        if question.kind is Kind.SAME_COLOUR:
            alike = one.attributes["color"] == other.attributes["color"]
        elif question.kind is Kind.SAME_GROUP:
            (things,) = _slots(each, "things")
            alike = _fits(one, things.lower(), world) and _fits(other, things.lower(), world)
        else:
            alike = one is other
        assert question.truth == ("yes" if alike else "no",) and question.answer.lower().startswith(question.truth[0])
        seen.add((question.kind, question.truth[0]))
    assert len(seen) == 6


def test_choices_hold_one_right_answer(asked: dict[str, list[Asked]]) -> None:
    for each in _all(asked):
        given = each.question.conversation.answers
        assert bool(given) == (each.question.kind is Kind.CHOICE)
        if given:
            assert given.count(each.question.answer) == 1 and len(given) >= 2


def test_follow_ups_name_their_object_only_in_the_turn_before(asked: dict[str, list[Asked]]) -> None:
    for each in _all(asked):
        messages = each.question.conversation.messages
        assert len(messages) == (3 if each.question.kind is Kind.FOLLOW_UP else 1)
        if len(messages) == 3:
            slots = set(re.findall(r"\{(\w+)\}", each.question.form))
            assert slots <= {"y", "more", "relation"}, "{x} would be the object itself"
            assert each.question.subject is not None

"""What the judge takes, and what it must refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dynrefer.model.conversation import GroundedSpan, Reply
from dynrefer.workbench.evaluation.conversing.judge import Boxes, Judge, overlap
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import Forms, Kind, Question, Says
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

SEED = 4_440_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def judge(world: World) -> Judge:
    return Judge(world)


@pytest.fixture(scope="module")
def asked(world: World) -> list[tuple[Scene, Question]]:
    sprites = SpritePack.load()
    scenes = [draw_scene(world, sprites, SEED + place, "test") for place in range(12)]
    return [
        (scene, question)
        for scene in scenes
        for forms in Forms
        for question in questions_about(scene, world, np.random.default_rng(scene.seed), forms)
    ]


def _question(asked: list[tuple[Scene, Question]], says: Says, **changed: object) -> tuple[Scene, Question]:
    """The first question whose answer says such a thing, of its own kind; with other truths."""
    scene, found = next((scene, each) for scene, each in asked if each.says is says and each.kind is not Kind.FOLLOW_UP)
    return scene, replace(found, **changed)  # type: ignore[arg-type]  # fields by name


def test_every_right_answer_is_right(judge: Judge, asked: list[tuple[Scene, Question]]) -> None:
    for scene, question in asked:
        assert judge.right(question, question.answer, scene), question
        for same in question.same_answers:
            assert judge.right(question, same, scene), question


def test_an_answer_to_another_question_is_not(judge: Judge, asked: list[tuple[Scene, Question]]) -> None:
    of: dict[Says, list[tuple[Scene, Question]]] = {}
    for scene, question in asked:
        of.setdefault(question.says, []).append((scene, question))
    for says, each in of.items():
        for (scene, question), (_, other) in zip(each, each[1:], strict=False):
            compared = says in (Says.RELATION, Says.DESCRIPTION, Says.ABSENCE)  # whose truths say more, or less
            if set(question.truth) != set(other.truth) and not compared:
                assert not judge.right(question, other.answer, scene), (question, other)


@pytest.mark.parametrize(
    ("says", "truth", "right", "wrong"),
    [
        (
            Says.NAME,
            ("rabbit",),
            ("A rabbit.", "It is a bunny", "the rabbits", "the rabbit is larger than the dog"),
            ("A dog.", "A rabbit and a dog.", "It is not a rabbit.", "I cannot tell.", "", "rabbits or dogs"),
        ),
        (Says.NAME, ("hot dog",), ("A hot dog.",), ("A dog.", "A hot dog and a dog.")),
        (Says.NAME, ("dog",), ("dog", "a puppy"), ("A hot dog.", "A bear.")),
        (Says.NAME, ("bear",), ("The bear.",), ("A teddy bear.",)),
        (
            Says.COLOUR,
            ("gray",),
            ("It is grey.", "Gray", "the dog is gray"),
            ("Red.", "Gray and red.", "It is not gray.", "I cannot tell.", "Dark."),
        ),
        (
            Says.COUNT,
            ("3",),
            ("Three.", "3", "There are 3 dogs.", "I see three of them"),
            ("Four.", "Three or four.", "Many.", "13", "None."),
        ),
        (Says.COUNT, ("0",), ("Zero.", "There are no dogs.", "None"), ("One.", "")),
        (Says.SIZE, ("large",), ("It is large.", "Big"), ("Small.", "large or medium", "It is not large.")),
        (
            Says.POSITION,
            ("top left",),
            ("It is at the top left.", "In the upper left corner", "top-left"),
            ("Top.", "left", "top right", "top left or bottom right"),
        ),
        (Says.POSITION, ("top",), ("At the top.", "at the top in the middle"), ("top left", "in the middle")),
        (Says.NAMES, ("dog", "cat"), ("A dog and a cat.", "dog, cat"), ("A cat and a dog.", "A dog.", "dog, cat, cow")),
        (
            Says.NAME_SET,
            ("dog", "cat"),
            ("A cat and a dog.",),
            ("A dog.", "A cat, a dog and a cow.", "A dog, a dog and a cat.", "Nothing."),
        ),
        (
            Says.SETTING,
            ("wooden floor",),
            ("The scene is on a wooden floor.", "A floor"),
            ("Grass.", "On grass, on a wooden floor", "It is not a wooden floor."),
        ),
        (
            Says.DESCRIPTION,
            ("dog", "red", "small"),
            ("A small red dog on grass.", "a red puppy"),
            ("A dog.", "A large red dog.", "A red cat.", "A red and blue dog.", "A red dog beside a cat"),
        ),
        (Says.CHOICE, ("top left",), ("top left", "Top left."), ("left", "top left or top", "")),
        (
            Says.ABSENCE,
            ("zebra",),
            ("There is no such object.", "There is no zebra in the image.", "I do not see a zebra"),
            ("It is red.", "There is no dog.", "I cannot tell.", "The zebra is here."),
        ),
        (Says.CANNOT_TELL, (), ("I cannot tell.", "I can't tell", "I'm not sure."), ("Red.", "Yes.", "")),
    ],
)
def test_other_words_for_it_are_right_and_more_than_it_is_wrong(
    judge: Judge,
    asked: list[tuple[Scene, Question]],
    says: Says,
    truth: tuple[str, ...],
    right: tuple[str, ...],
    wrong: tuple[str, ...],
) -> None:
    scene, question = _question(asked, says, truth=truth)
    assert [text for text in right if not judge.right(question, text, scene)] == []
    assert [text for text in wrong if judge.right(question, text, scene)] == []


def test_yes_and_no_with_a_false_detail_are_refused(judge: Judge, asked: list[tuple[Scene, Question]]) -> None:
    scene, question = next((scene, each) for scene, each in asked if each.kind is Kind.EXISTENCE and each.spans)
    stranger = next(name for name in ("zebra", "koala") if name not in question.conversation.question)
    assert judge.right(question, "Yes", scene) and judge.right(question, "yes, it is there", scene)
    for text in ("No.", "Yes and no.", "Perhaps.", f"Yes, there is a {stranger}.", ""):
        assert not judge.right(question, text, scene), text
    denied = replace(question, truth=("no",), answer="No, there is none.", spans=())
    assert judge.right(denied, "There is none.", scene) and not judge.right(denied, "There is one.", scene)


def test_a_relation_may_be_said_from_the_other_side(
    judge: Judge, asked: list[tuple[Scene, Question]], world: World
) -> None:
    scene, question = _question(asked, Says.RELATION, answer="The dog is left of the cat.", truth=("left of",))
    question = replace(question, spans=(GroundedSpan((4, 7), (0, 0, 9, 9)), GroundedSpan((23, 26), (20, 0, 29, 9))))
    for text in ("Left of the cat", "to the left", "The dog is to the left of the cat.", "The cat is right of the dog"):
        assert judge.right(question, text, scene) == (text != "Left of the cat"), text
    for text in ("Right.", "The cat is left of the dog.", "left and above", "The cow is left of the cat.", ""):
        assert not judge.right(question, text, scene), text


def test_boxes_count_once_and_under_their_name(judge: Judge, asked: list[tuple[Scene, Question]]) -> None:
    dog, cat = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
    _, question = _question(asked, Says.NAME_SET, answer="A dog and a cat.", truth=("dog", "cat"))
    question = replace(question, spans=(GroundedSpan((2, 5), dog), GroundedSpan((12, 15), cat)))

    def found(*given: tuple[tuple[int, int], tuple[float, float, float, float]]) -> Boxes:
        return judge.boxes(question, Reply(question.answer, tuple(GroundedSpan(*each) for each in given)))

    assert found(((2, 5), dog), ((12, 15), cat)) == Boxes(2, 2, 2, 2)
    assert found(((2, 5), cat), ((12, 15), dog)) == Boxes(0, 2, 2, 2)
    assert found(((2, 5), dog), ((2, 5), dog)) == Boxes(1, 2, 2, 2)
    assert found(((2, 5), (0.0, 0.0, 4.0, 10.0))) == Boxes(0, 2, 0, 1)
    assert overlap(dog, cat) == 0 and overlap(dog, (5.0, 0.0, 15.0, 10.0)) == pytest.approx(1 / 3)

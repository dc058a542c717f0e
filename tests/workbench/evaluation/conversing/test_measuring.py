"""The measurement, of a converser that knows everything and of one that knows nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.conversing import large_images, report, shown
from dynrefer.model import DynRefer
from dynrefer.model.conversation import Reply
from dynrefer.model.loading import load_model, model_directory
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.workbench.evaluation.conversing import measuring, summary
from dynrefer.workbench.evaluation.conversing.baselines import QuestionOnly
from dynrefer.workbench.evaluation.conversing.judge import Judge
from dynrefer.workbench.evaluation.conversing.measuring import CONDITIONS, Measured, Row
from dynrefer.workbench.evaluation.conversing.spreading import spread
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.facts import SceneFacts
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import YES_NO_KINDS, Kind, Question
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.conversing.oracle import Oracle

SCENES = 2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the benchmark measures: beside threads of other tests, several of torch's own would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def parts() -> tuple[DynRefer, Oracle]:
    loaded = load_model("embedded", device="cpu", dtype="float32")
    oracle = Oracle()
    segmenter = load_segmenter("embedded", model_directory("embedded"), loaded.device)
    return DynRefer(loaded, segmenter=segmenter, converser=oracle), oracle


@pytest.fixture
def measured(parts: tuple[DynRefer, Oracle], monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Whatever is about to be asked of a scene is told to the oracle."""
    model, oracle = parts
    oracle.known.clear()
    oracle.wrong = lambda question: None
    world, sprites = World.load(), SpritePack.load()

    def told(scene: Scene, *given: object, **named: object) -> list[Question]:
        questions = questions_about(scene, *given, **named)  # type: ignore[arg-type]  # passed on
        oracle.tell(scene.image, questions)
        return questions

    monkeypatch.setattr(measuring, "questions_about", told)
    return Measured(model, world, sprites, Judge(world), QuestionOnly.of_training(world, sprites, 8))


def test_who_knows_everything_is_always_right(measured: Measured) -> None:
    rows = list(measured.rows(SCENES))
    table = summary.by_kind(rows)
    assert {row.condition for row in rows} == set(CONDITIONS)
    assert all(cell.value in (1.0, None) for cells in table.values() for cell in cells.values())
    found = summary.grounding(rows)
    assert found["found"].value == found["fitting"].value == found["in raster order"].value == 1
    assert found["invented"].value == 0
    known = summary.baselines(rows)["all"]
    assert known["model"].value == 1
    for name in ("most frequent answer", "blank image", "caption as answer"):
        assert 0 <= known[name].value < 0.7, name  # type: ignore[operator]  # all are measured
    assert "| existence |" in shown(rows, []) and report(rows, [])["large_images"] is None


def test_who_knows_nothing_is_right_where_nobody_can_know(
    measured: Measured, parts: tuple[DynRefer, Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts[1], "wrong", lambda question: Reply("I cannot tell."))
    rows = list(measured.rows(1))
    assert {row.kind for row in rows if row.right} == {Kind.UNANSWERABLE}
    assert summary.grounding(rows)["found"].value == 0 and summary.grounding(rows)["fitting"].value is None


def test_who_always_says_yes_is_right_half_of_the_time(
    measured: Measured, parts: tuple[DynRefer, Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts[1], "wrong", lambda question: Reply("Yes."))
    rows = list(replace(measured, kinds=YES_NO_KINDS).rows(SCENES))
    for cells in summary.by_kind(rows).values():
        assert all(cell.value in (0.5, None) for cell in cells.values())


def test_invented_objects_are_counted(
    measured: Measured, parts: tuple[DynRefer, Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts[1], "wrong", lambda question: Reply(f"{question.answer[:-1]}, a dog and a zebra."))
    rows = list(replace(measured, kinds=(Kind.LISTING,)).rows(SCENES))
    assert not any(row.right for row in rows)
    assert all(1 <= row.invented <= 2 and row.named > 3 for row in rows)


def test_large_images_are_measured_with_and_without_tiles(measured: Measured, parts: tuple[DynRefer, Oracle]) -> None:
    seen: list[bool] = []
    oracle = parts[1]

    def noted(question: Question) -> Reply | None:
        seen.append(oracle.tiled)
        return None

    oracle.wrong = noted
    rows = large_images(replace(measured, kinds=(Kind.NAME, Kind.WHERE)), oracle, 2)
    assert seen == [True] * 4 + [False] * 4 and oracle.tiled
    assert {row.condition for row in rows} == {"tiles", "one view"} and all(row.right for row in rows)
    assert "images of 3 times the side" in shown(rows, rows)


def test_a_spread_scene_keeps_its_objects_and_is_true_of_itself() -> None:
    world, sprites = World.load(), SpritePack.load()
    scene = draw_scene(world, sprites, 4_441_000_000, "test")
    large = spread(scene, 3, np.random.default_rng(1))
    assert large.image.shape == (3 * scene.image.shape[0], 3 * scene.image.shape[1], 3)
    before, after = SceneFacts(scene, world), SceneFacts(large, world)
    for index, (old, new) in enumerate(zip(scene.objects, large.objects, strict=True)):
        assert new.box[2] - new.box[0] == old.box[2] - old.box[0]
        assert (large.image[large.visible(index)] == scene.image[scene.visible(index)]).all()
        assert before.colour(index) == after.colour(index) and after.size(index) is None
    assert all(before.relation(0, other) == after.relation(0, other) for other in range(1, len(before)))
    with pytest.raises(ValueError, match="photograph"):
        spread(replace(scene, scene=None), 3, np.random.default_rng(1))


def test_the_most_frequent_answer_is_that_of_the_same_words_first(world_questions: list[Question]) -> None:
    question = next(each for each in world_questions if each.kind is Kind.COLOUR)
    only = QuestionOnly([question] * 5 + world_questions)
    assert only.answer(question) == question.answer
    exists = next(each for each in world_questions if each.kind is Kind.EXISTENCE)
    assert only.answer(exists) in ("Yes.", "No.")
    choice = next(each for each in world_questions if each.kind is Kind.CHOICE)
    assert only.answer(choice) in choice.conversation.answers
    assert QuestionOnly([]).answer(question) == ""


@pytest.fixture(scope="module")
def world_questions() -> list[Question]:
    world, sprites = World.load(), SpritePack.load()
    return [
        question
        for seed in range(6)
        for question in questions_about(draw_scene(world, sprites, seed, "train"), world, np.random.default_rng(seed))
    ]


def test_errors_are_of_scenes_and_not_of_answers(measured: Measured) -> None:
    def row(scene: int, right: bool) -> Row:
        return replace(next(replace(measured, kinds=(Kind.COUNT,)).rows(1)), scene=scene, right=right)

    def error(rows: Sequence[Row]) -> float:
        found = summary.accuracy(rows).error
        assert found is not None
        return found

    one = row(0, True)
    alike = [replace(one, scene=scene, right=scene % 2 == 0) for scene in range(20) for _ in range(10)]
    apart = [replace(one, scene=scene, right=place % 2 == 0) for scene in range(20) for place in range(10)]
    assert error(alike) > 0.08 and error(apart) == 0
    assert summary.accuracy([one]).error is None

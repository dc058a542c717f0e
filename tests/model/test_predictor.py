"""The embedded model through the Python interface: tasks, views, batches, thresholds."""

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import BoxError, DynRefer, QueryError, RegionDescription, RegionQuery, Task, ViewPolicy, ViewsError
from dynrefer.model.batch import BatchResult, run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.errors import (
    DamagedImageError,
    DeviceError,
    DeviceMemoryError,
    OutputError,
    StoppedError,
    UnsupportedImageError,
)
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel
from dynrefer.model.preparation import RegionInput
from tests.repository import DOCS

SCENE = DOCS / "scene.png"
BOXES = [(41.0, 2.0, 117.0, 82.0), (50.0, 89.0, 105.0, 138.0), (57.0, 148.0, 122.0, 229.0)]


@pytest.fixture(scope="module")
def model() -> DynRefer:
    return DynRefer.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return upright_pixels(SCENE)


def same(a: RegionDescription, b: RegionDescription, tolerance: float = 1e-5) -> None:
    """Equal text and order; scores within the tolerance."""
    assert a.plan == b.plan
    for one, other in ((a.tags, b.tags), (a.attributes, b.attributes), (a.categories, b.categories)):
        assert [x.name for x in one or ()] == [x.name for x in other or ()]
        np.testing.assert_allclose(
            [x.score for x in one or ()], [x.score for x in other or ()], rtol=tolerance, atol=tolerance
        )
    if a.caption is not None and b.caption is not None:
        assert a.caption.text == b.caption.text
        assert a.caption.logprob_sum == pytest.approx(b.caption.logprob_sum, abs=1e-3)


def test_the_drawn_objects_are_recognised(model: DynRefer) -> None:
    found = model.describe(SCENE, BOXES)
    names = [each.categories[0].name for each in found if each.categories]
    assert names == ["snowman", "pig", "wine glass"]


def test_no_task_gives_all_four_with_views_chosen_by_the_image(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, BOXES[:1])
    assert found.plan is not None and found.plan.policy is ViewPolicy.IMAGE_PRIOR
    assert len(found.plan.views) == model.card.num_views and found.plan.views[0].t == 0.0
    assert found.caption is not None and found.caption.text
    assert found.tags is not None and found.attributes is not None and found.categories is not None
    assert {"views", "vision", "heads", "caption"} <= set(found.timings_ms)


@pytest.mark.parametrize("task", list(Task))
def test_a_task_gives_only_itself_with_its_prior(model: DynRefer, task: Task) -> None:
    (found,) = model.describe(SCENE, BOXES[:1], task)
    present = {each for each in Task if getattr(found, str(each)) is not None}
    assert present == {task}
    assert found.plan is not None and found.plan.policy is ViewPolicy.TASK_PRIOR
    assert tuple(view.t for view in found.plan.views) == model.card.task_priors[task]


def test_tasks_with_different_priors_keep_their_own_plans(model: DynRefer, monkeypatch: pytest.MonkeyPatch) -> None:
    priors = {"caption": (0.0, 0.4, 0.5), "attributes": (0.0, 0.1, 0.2)}
    monkeypatch.setattr(model, "preparation", replace(model.preparation, task_priors=priors))
    (found,) = model.describe(SCENE, BOXES[:1], ["caption", "attributes"])
    assert found.plan is None
    assert {task: tuple(v.t for v in plan.views) for task, plan in found.plans.items()} == priors


def test_explicit_views(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, BOXES[:1], views=(0.0, 0.5, 1.0))
    assert found.plan is not None and found.plan.policy is ViewPolicy.FIXED
    assert found.plan.views[2].box == (0.0, 0.0, 231.0, 221.0)[:2] + found.plan.views[2].box[2:]


@pytest.mark.parametrize("views", [(0.1, 0.2, 0.3), (0.0, 0.5), (0.0, 0.5, 1.5)])
def test_views_that_the_model_cannot_take(model: DynRefer, views: tuple[float, ...]) -> None:
    with pytest.raises(ViewsError):
        model.describe(SCENE, BOXES[:1], views=views)


def test_an_answer_does_not_depend_on_the_batch(model: DynRefer, image: NDArray[np.uint8]) -> None:
    alone = [model.describe(image, [box])[0] for box in BOXES]
    together = model.describe(image, BOXES)
    mixed = model.prepare(image, [RegionQuery(BOXES[1], (Task.TAGS,))]) + model.prepare(
        image, [RegionQuery(box) for box in reversed(BOXES)]
    )
    outputs = model.run(mixed)
    reversed_again = [model.finish(r, o) for r, o in zip(mixed[1:], outputs[1:], strict=True)][::-1]
    for one, two, three in zip(alone, together, reversed_again, strict=True):
        same(one, two)
        same(one, three)


def test_top_k_and_thresholds(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, BOXES[:1], top_k=3, thresholds={Task.TAGS: 0.0, Task.ATTRIBUTES: 0.5})
    assert found.tags is not None and len(found.tags) == 3
    assert found.attributes is not None and all(each.score > 0.5 for each in found.attributes)
    assert found.categories is not None and len(found.categories) == 3
    scores = [each.score for each in found.categories]
    assert scores == sorted(scores, reverse=True)


def test_probabilities_are_probabilities(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, BOXES[:1], top_k=1000, thresholds={Task.TAGS: 0.0})
    assert found.tags and found.attributes and found.categories
    for each in (*found.tags, *found.attributes, *found.categories):
        assert 0.0 <= each.probability <= 1.0
    assert sum(each.probability for each in found.categories) == pytest.approx(1.0, abs=1e-4)


def test_box_partly_outside_is_clipped(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, [(-20.0, -20.0, 117.0, 82.0)], "tags")
    assert found.clipped and found.box == (0.0, 0.0, 117.0, 82.0)


@pytest.mark.parametrize("box", [(500, 500, 600, 600), (50, 50, 40, 60), (5, 5, 5, 9), (0, 0, float("nan"), 5)])
def test_a_bad_box_names_its_query(model: DynRefer, image: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    with pytest.raises(BoxError) as caught:
        model.describe(image, [BOXES[0], box])
    assert caught.value.index == 1 and isinstance(caught.value, QueryError) and caught.value.field == "box"


def test_regions_are_prepared_as_they_are_asked_for(model: DynRefer, image: NDArray[np.uint8]) -> None:
    steps = model.preparation.prepare_each(
        image, [RegionQuery(BOXES[0]), RegionQuery(BOXES[1]), RegionQuery((5, 5, 5, 9))]
    )
    for expected in model.prepare(image, [RegionQuery(box) for box in BOXES[:2]]):
        (found,), (one,) = next(steps).inputs, expected.inputs
        assert found.plan == one.plan and (found.views.images == one.views.images).all()
    with pytest.raises(BoxError) as caught:
        next(steps)
    assert caught.value.index == 2


def test_results_are_json_as_they_come(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, BOXES[:1])
    assert json.loads(json.dumps(asdict(found))) == found.to_dict()
    assert found.plan is not None and {type(each.distance) for each in found.plan.candidates} == {int}
    assert not {type(value).__module__ for value in leaves(asdict(found))} - {"builtins", "dynrefer.model.types"}


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from leaves(each)
    else:
        yield value


@pytest.mark.parametrize("given", [bytes, bytearray, memoryview])
def test_the_bytes_of_a_file(given: type, model: DynRefer) -> None:
    same(model.describe(given(SCENE.read_bytes()), BOXES[:1], "tags")[0], model.describe(SCENE, BOXES[:1], "tags")[0])


@pytest.mark.parametrize(
    ("image", "words"),
    [(None, "NoneType"), (5, "int"), ([SCENE], "list"), (torch.zeros(4, 4, 3), "Tensor"), (io.BytesIO(), "BytesIO")],
)
def test_what_is_no_image_is_refused_by_the_name_of_its_type(image: Any, words: str, model: DynRefer) -> None:
    with pytest.raises(QueryError, match=words):
        model.describe(image, BOXES[:1])


def test_bytes_that_are_no_image() -> None:
    with pytest.raises(UnsupportedImageError, match="not an image"):
        upright_pixels(b"text")
    with pytest.raises(DamagedImageError, match="cut short"):
        upright_pixels(SCENE.read_bytes()[:1000])


def test_arguments_of_a_wrong_type(model: DynRefer, image: NDArray[np.uint8]) -> None:
    wrong: list[dict[str, Any]] = [{"boxes": BOXES[0]}, {"controls": "grass"}, {"top_k": 0}, {"task": 5}]
    for each in wrong:
        with pytest.raises(QueryError):
            model.describe(image, **{"boxes": BOXES, **each})
    with pytest.raises(BoxError, match="5 values"):
        model.plan_views(image, (*BOXES[0], 0.9))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("what", ["describe", "load"])
def test_a_fork_is_told_so(what: str, model: DynRefer, image: NDArray[np.uint8]) -> None:
    model.describe(image, BOXES[:1], "tags")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # whatever happens, this process ends here
        try:
            DynRefer.load("embedded") if what == "load" else model.describe(image, BOXES[:1], "tags")
        except DeviceError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as answer:
        assert b"load the model after the fork" in answer.read()


def test_no_boxes_give_no_results(model: DynRefer) -> None:
    assert model.describe(SCENE, []) == []


def test_upright_pixels_apply_the_orientation(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert upright_pixels(tmp_path / "turned.jpg").shape == (40, 20, 3)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(QueryError, match="uint8 RGB"):
        upright_pixels(np.zeros(shape, np.uint8))


def test_what_is_transparent_lies_on_white() -> None:
    assert upright_pixels(Image.new("RGBA", (2, 2), (0, 0, 0, 0))).min() == 255


def test_a_batch_stops_once_no_client_waits_for_it(model: DynRefer, image: NDArray[np.uint8]) -> None:
    regions = model.prepare(image, [RegionQuery(box=BOXES[0])])
    checks = 0

    def never() -> bool:
        nonlocal checks
        checks += 1
        return False

    same(model.finish(regions[0], model.run(regions, never)[0]), model.finish(regions[0], model.run(regions)[0]), 0)
    assert checks > 4  # between the stages and between the caption's tokens
    for after in range(checks):
        answers = iter([False] * after + [True])
        with pytest.raises(StoppedError):
            model.run(regions, lambda answers=answers: next(answers))  # type: ignore[misc]


@pytest.mark.parametrize("needs", ["the cache's memory", "more than there is"])
def test_a_batch_out_of_memory_gets_the_memory_of_the_cache(
    model: DynRefer, image: NDArray[np.uint8], needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    caching = DynRefer(model._loaded, cache_bytes=64 << 20)
    first, second = ([region] for region in model.prepare(image, [RegionQuery(box) for box in BOXES[:2]]))
    expected = model.finish(second[0], model.run(second)[0])
    cached_bytes: list[int] = []

    def run_or_fail(loaded: LoadedModel, inputs: Sequence[RegionInput], cache: FeatureCache, stop: None) -> BatchResult:
        cached_bytes.append(sum(stats.bytes for stats in caching.cache_stats.values()))
        if cached_bytes[-1] or needs == "more than there is":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run_batch(loaded, inputs, cache, stop)

    caching.run(first)
    monkeypatch.setattr("dynrefer.model.predictor.run_batch", run_or_fail)
    if needs == "the cache's memory":
        same(model.finish(second[0], caching.run(second)[0]), expected, 0)
        assert [bool(each) for each in cached_bytes] == [True, False]
        assert caching.cache_stats["regions"].entries == 1
        return
    for runs in (2, 1):  # once more where something was cached, and not where nothing is
        cached_bytes.clear()
        with pytest.raises(DeviceMemoryError):
            caching.run(second)
        assert len(cached_bytes) == runs and not sum(stats.bytes for stats in caching.cache_stats.values())


@pytest.mark.parametrize("part", ["tags", "attributes", "categories", "caption"])
def test_nan_is_an_error(model: DynRefer, image: NDArray[np.uint8], part: str) -> None:
    (region,) = model.prepare(image, [RegionQuery(box=BOXES[0])])
    (output,) = model.run([region])
    (found,) = output.outputs
    broken = replace(found["caption"], score=float("nan")) if part == "caption" else np.full(3, np.inf, np.float32)
    with pytest.raises(OutputError):
        model.finish(region, replace(output, outputs=({**found, part: broken},)))

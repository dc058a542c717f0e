"""One batch on the device against the reference path, in any batch; and what is cached between batches."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from dynrefer.model.batch import RawOutputs, run_batch
from dynrefer.model.cache import CacheStats, FeatureCache
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import RegionInput
from dynrefer.model.types import RegionQuery, Task
from tests.model.reference_batch import reference_batch
from tests.repository import DOCS

SCENE = DOCS / "scene.png"
BOXES = [(41.0, 2.0, 117.0, 82.0), (50.0, 89.0, 105.0, 138.0), (57.0, 148.0, 122.0, 229.0)]
ROOM = 64 << 20


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def inputs(loaded: LoadedModel) -> list[RegionInput]:
    """Three regions: all tasks, all tasks with views that share t = 1, and each task alone; from two requests."""
    image, model = upright_pixels(SCENE), DynRefer(loaded)
    queries = [RegionQuery(box) for box in BOXES]
    queries += [RegionQuery(box, views=(0.0, 0.5, 1.0), controls=("street",)) for box in BOXES]
    regions = list(model.prepare(image, queries))
    regions += model.prepare(image.copy(), [RegionQuery(BOXES[0], (task,)) for task in Task])
    return [each for region in regions for each in region.inputs]


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, inputs: list[RegionInput]) -> list[RawOutputs]:
    """Each input alone, by the reference path."""
    return [reference_batch(loaded, [each])[0] for each in inputs]


def check(found: Sequence[RawOutputs], reference: Sequence[RawOutputs], inputs: Sequence[RegionInput]) -> None:
    """What was requested, and the tags that a caption needs, as by the reference path; nothing else."""
    for ours, theirs, each in zip(found, reference, inputs, strict=True):
        for task in Task:
            needed = task in each.tasks or (task is Task.TAGS and Task.CAPTION in each.tasks)
            assert (task in ours) == needed, (task, each.tasks)
            if not needed:
                continue
            mine, other = ours[task], theirs[task]
            if task is Task.CAPTION:
                assert _words(mine.tokens) == _words(other.tokens) and mine.length == other.length
                assert mine.score == pytest.approx(other.score, abs=1e-5, rel=1e-5)
                assert mine.logprob_sum == pytest.approx(other.logprob_sum, abs=1e-5, rel=1e-5)
            else:
                np.testing.assert_allclose(mine, other, atol=1e-5, rtol=1e-5)


def _words(tokens: Sequence[int]) -> list[int]:
    """Without padding, whose amount depends on the longest caption of the batch."""
    return [token for token in tokens if token]


def test_alone_as_the_reference(loaded: LoadedModel, inputs: list[RegionInput], expected: list[RawOutputs]) -> None:
    for each, reference in zip(inputs, expected, strict=True):
        check(run_batch(loaded, [each], FeatureCache(0)).outputs, [reference], [each])


def test_in_any_batch(loaded: LoadedModel, inputs: list[RegionInput], expected: list[RawOutputs]) -> None:
    rng = np.random.default_rng(0)
    for size in (2, 4, len(inputs)):
        for order in (list(range(size)), rng.permutation(len(inputs))[:size].tolist(), [0] * size):
            some = [inputs[i] for i in order]
            check(run_batch(loaded, some, FeatureCache(0)).outputs, [expected[i] for i in order], some)


def test_cached_answers_are_the_same(
    loaded: LoadedModel, inputs: list[RegionInput], expected: list[RawOutputs]
) -> None:
    for capacity in (0, 1, 200_000, ROOM):
        cache = FeatureCache(capacity)
        for order in (range(0, 6), range(4, len(inputs)), range(len(inputs))):
            some = [inputs[i] for i in order]
            check(run_batch(loaded, some, cache).outputs, [expected[i] for i in order], some)
        for kind in (cache.views, cache.regions):
            assert kind.stats.bytes <= kind.capacity


class Counted:
    """How many views and regions reach the network."""

    def __init__(self, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.views = self.regions = 0
        network = loaded.network
        encode, represent = network.encode, network.represent_in_parts

        def counting_encode(images: torch.Tensor) -> object:
            self.views += len(images)
            return encode(images)

        def counting_represent(features: object, boxes: torch.Tensor) -> object:
            self.regions += len(boxes)
            return represent(features, boxes)  # type: ignore[arg-type]

        monkeypatch.setattr(network, "encode", counting_encode)
        monkeypatch.setattr(network, "represent_in_parts", counting_represent)


@pytest.fixture
def counted(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(loaded, monkeypatch)


def test_the_whole_image_is_encoded_once_for_all_regions(
    loaded: LoadedModel, inputs: list[RegionInput], counted: Counted
) -> None:
    run_batch(loaded, inputs[3:6], FeatureCache(0))
    assert counted.views == 3 * 2 + 1 and counted.regions == 3


def test_the_same_region_in_two_requests_is_represented_once(loaded: LoadedModel, counted: Counted) -> None:
    model = DynRefer(loaded)
    requests = [model.prepare(upright_pixels(SCENE), [RegionQuery(BOXES[0], views=(0, 0.2, 0.4))]) for _ in range(2)]
    model.run([region for request in requests for region in request])
    assert counted.views == 3 and counted.regions == 1


def test_another_task_with_the_same_views_needs_no_vision(loaded: LoadedModel, counted: Counted) -> None:
    model, image = DynRefer(loaded, cache_bytes=ROOM), upright_pixels(SCENE)
    for tasks, regions in (((Task.TAGS,), 1), ((Task.CATEGORIES, Task.ATTRIBUTES), 0), ((Task.TAGS,), 0)):
        counted.regions = 0
        model.run(model.prepare(image, [RegionQuery(BOXES[0], tasks, views=(0, 0.2, 0.4))]))
        assert counted.regions == regions
    assert model.cache_stats["regions"].hits == 2


def test_a_shared_view_is_found_again_in_a_later_batch(loaded: LoadedModel, counted: Counted) -> None:
    model, image = DynRefer(loaded, cache_bytes=ROOM), upright_pixels(SCENE)
    for box, views in ((BOXES[0], 3), (BOXES[1], 2)):
        counted.views = 0
        model.run(model.prepare(image, [RegionQuery(box, views=(0, 0.2, 1.0))]))
        assert counted.views == views


def test_without_a_cache_nothing_is_kept(loaded: LoadedModel, counted: Counted) -> None:
    model, image = DynRefer(loaded), upright_pixels(SCENE)
    for _ in range(2):
        model.run(model.prepare(image, [RegionQuery(BOXES[0], views=(0, 0.2, 1.0))]))
    assert counted.views == 6 and counted.regions == 2
    assert set(model.cache_stats.values()) == {CacheStats()}


def test_a_transient_fault_is_not_cached(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = DynRefer(loaded, cache_bytes=ROOM), upright_pixels(SCENE)
    regions = model.prepare(image, [RegionQuery(BOXES[0], (Task.TAGS,), views=(0, 0.2, 0.4))])
    encode = loaded.network.encode_in_parts
    broken = VisionFeatures(encode(torch.zeros(3, 3, 64, 64, dtype=torch.uint8)).map * torch.nan, None)
    with monkeypatch.context() as fault:
        fault.setattr(loaded.network, "encode_in_parts", lambda images: broken)
        assert np.isnan(model.run(regions)[0].outputs[0][Task.TAGS]).all()
    assert np.isfinite(model.run(regions)[0].outputs[0][Task.TAGS]).all()
    assert model.cache_stats["regions"].entries == 1 and model.cache_stats["views"].entries == 3


def test_one_pixel_or_another_box_is_another_region(loaded: LoadedModel, counted: Counted) -> None:
    model, image = DynRefer(loaded, cache_bytes=ROOM), upright_pixels(SCENE)
    touched = image.copy()
    touched[40:60, 70:90] ^= 255
    for pixels, box in itertools.product((image, touched), (BOXES[0], (38.0, 2.0, 117.0, 82.0))):
        counted.regions = 0
        model.run(model.prepare(pixels, [RegionQuery(box, views=(0, 0.2, 0.4))]))
        assert counted.regions == 1


def test_times_of_the_stages_add_up(loaded: LoadedModel, inputs: list[RegionInput]) -> None:
    result = run_batch(loaded, inputs, FeatureCache(0))
    assert set(result.timings_ms) == {"vision", "heads", "caption"}
    assert sum(result.timings_ms.values()) == pytest.approx(sum(result.parts_ms.values()))
    assert all(spent > 0 for spent in result.parts_ms.values())

"""Regions that join and leave the device's work at any time, against whole batches of the same model."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from dynrefer.model import continuous
from dynrefer.model.batch import RegionOutput
from dynrefer.model.continuous import ContinuousDescription
from dynrefer.model.errors import DeviceMemoryError
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import PreparedRegion
from dynrefer.model.tasks import DEVICE_STAGES
from dynrefer.model.types import RegionQuery, Task
from tests.model.test_batch import BOXES, SCENE, check

ROOM = 64 << 20


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def regions(loaded: LoadedModel) -> list[PreparedRegion]:
    """All tasks, tasks with views of their own, controls, each task alone, one region twice."""
    queries = [RegionQuery(box) for box in BOXES]
    queries += [RegionQuery(box, tuple(Task)) for box in BOXES[:2]]
    queries += [RegionQuery(box, views=(0.0, 0.5, 1.0), controls=("street",)) for box in BOXES[:2]]
    queries += [RegionQuery(BOXES[0], (task,)) for task in Task] + [RegionQuery(BOXES[0])]
    return DynRefer(loaded).prepare(upright_pixels(SCENE), queries)


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, regions: list[PreparedRegion]) -> list[RegionOutput]:
    """Each region alone, as a whole batch."""
    return [DynRefer(loaded).run([region])[0] for region in regions]


def opened(model: DynRefer) -> ContinuousDescription:
    batch = model.continuous()
    assert batch is not None
    return batch


def continuing(loaded: LoadedModel, cache_bytes: int = 0) -> DynRefer:
    return DynRefer(loaded, cache_bytes=cache_bytes, batching="continuous")


def run_all(batch: ContinuousDescription, tickets: dict[int, int]) -> Iterator[tuple[int, RegionOutput]]:
    """Until every ticket is complete: the region's index and its output."""
    while tickets:
        for ticket, output in batch.advance():
            yield tickets.pop(ticket), output


def same(output: RegionOutput, reference: RegionOutput, region: PreparedRegion) -> None:
    check(output.outputs, reference.outputs, region.inputs)
    for ours, theirs in zip(output.outputs, reference.outputs, strict=True):
        assert ours.identity is not None and theirs.identity is not None
        assert (ours.identity.name, ours.identity.domain) == (theirs.identity.name, theirs.identity.domain)
    assert set(output.timings_ms) == set(DEVICE_STAGES) and output.timings_ms["vision"] > 0
    assert (output.timings_ms["caption"] > 0) == any(Task.CAPTION in each.tasks for each in region.inputs)


@pytest.mark.parametrize("cache_bytes", [0, ROOM])
def test_together_as_each_alone(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[RegionOutput], cache_bytes: int
) -> None:
    batch = opened(continuing(loaded, cache_bytes))
    for _ in range(2):  # the second time from the cache
        found = dict(run_all(batch, {ticket: i for i, ticket in enumerate(batch.admit(regions))}))
        for i, region in enumerate(regions):
            same(found[i], expected[i], region)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_regions_that_join_one_after_the_other(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[RegionOutput], steps: int
) -> None:
    batch, tickets, found = opened(continuing(loaded)), dict[int, int](), dict[int, RegionOutput]()
    for i, region in enumerate(regions):
        while not batch.room.regions:
            found |= {tickets.pop(ticket): output for ticket, output in batch.advance()}
        (ticket,) = batch.admit([region])
        tickets[ticket] = i
        for _ in range(steps):
            found |= {tickets.pop(ticket): output for ticket, output in batch.advance()}
    found |= dict(run_all(batch, tickets))
    for i, region in enumerate(regions):
        same(found[i], expected[i], region)


def test_room_is_bounded_by_groups_and_by_slots(
    loaded: LoadedModel, regions: list[PreparedRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynrefer.model.predictor._SLOTS_ON_CPU", 2)
    batch = opened(continuing(loaded))
    assert batch.room == (2, continuous.GROUP_VIEWS)
    tickets = {batch.admit([region])[0]: i for i, region in enumerate(regions[:2])}
    assert batch.room.regions == 0  # both groups are taken
    batch.advance()
    assert batch.room.regions == 0  # both slots are: one is written, one is promised
    list(run_all(batch, tickets))
    assert batch.room.regions == 2


def test_dropped_regions_leave_the_others_as_they_are(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[RegionOutput]
) -> None:
    batch = opened(continuing(loaded))
    first = batch.admit(regions[:3])
    batch.advance()
    second = batch.admit(regions[3:6])
    batch.drop([first[0], second[1], 10_000])
    found = dict(run_all(batch, {first[1]: 1, first[2]: 2, second[0]: 3, second[2]: 5}))
    assert sorted(found) == [1, 2, 3, 5]
    for i, output in found.items():
        same(output, expected[i], regions[i])
    assert batch.room.regions == 16


def test_groups_that_nobody_waits_for_leave_their_room(loaded: LoadedModel, regions: list[PreparedRegion]) -> None:
    batch = opened(continuing(loaded))
    tickets = [batch.admit([region])[0] for region in regions[: continuous.GROUPS]]
    assert batch.room.regions == 0
    batch.drop(tickets)
    assert batch.room.regions == 16 and batch.advance() == []


def failing_once() -> Callable[..., object]:
    original, calls = continuous.represent, iter(range(100))

    def fail(*arguments: object) -> object:
        if next(calls) == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(*arguments)  # type: ignore[arg-type]

    return fail


def test_what_does_not_fit_does_not_join(
    loaded: LoadedModel,
    regions: list[PreparedRegion],
    expected: list[RegionOutput],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = opened(continuing(loaded))
    tickets = {batch.admit(regions[:1])[0]: 0}
    monkeypatch.setattr(continuous, "represent", failing_once())
    with pytest.raises(DeviceMemoryError):
        batch.admit(regions[1:3])
    tickets |= {batch.admit(regions[3:4])[0]: 3}
    for i, output in run_all(batch, tickets):
        same(output, expected[i], regions[i])


def test_a_full_device_gets_the_memory_of_the_cache(
    loaded: LoadedModel, regions: list[PreparedRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = continuing(loaded, ROOM)
    batch = opened(model)
    list(run_all(batch, {batch.admit(regions[:1])[0]: 0}))
    assert model.cache_stats["regions"].entries
    monkeypatch.setattr(continuous, "represent", failing_once())
    (ticket,) = batch.admit(regions[1:2])
    assert not model.cache_stats["regions"].entries
    assert dict(run_all(batch, {ticket: 1}))


def test_a_failing_step_leaves_nothing_here(
    loaded: LoadedModel,
    regions: list[PreparedRegion],
    expected: list[RegionOutput],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = opened(continuing(loaded))
    batch.admit(regions[:2])
    batch.advance()
    with monkeypatch.context() as patch:
        patch.setattr(batch._slots, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batch.advance()
    assert batch.advance() == [] and batch.room.regions == 16
    for i, output in run_all(batch, {batch.admit(regions[:1])[0]: 0}):
        same(output, expected[i], regions[i])


def test_what_is_not_finite_is_not_kept(loaded: LoadedModel, regions: list[PreparedRegion]) -> None:
    model, queries = continuing(loaded, ROOM), loaded.network.query_tokens
    batch, kept = opened(model), queries.detach().clone()
    with torch.no_grad():
        queries.fill_(np.nan)
    try:
        list(run_all(batch, {batch.admit(regions[:1])[0]: 0}))
    finally:
        with torch.no_grad():
            queries.copy_(kept)
    assert model.cache_stats["regions"].entries == 0 and model.cache_stats["views"].entries == 3


def test_a_cpu_runs_whole_batches_unless_told_otherwise(loaded: LoadedModel) -> None:
    assert DynRefer(loaded).continuous() is None
    assert DynRefer(loaded, batching="whole").continuous() is None
    with pytest.raises(ValueError, match="sometimes"):
        DynRefer(loaded, batching="sometimes")
    assert DynRefer(loaded).batch_limits() is None

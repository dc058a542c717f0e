"""The order of batches: kinds, keys and requests take turns."""

import time
from collections.abc import Callable, Sequence

import pytest

from dynrefer.model.errors import DeviceMemoryError
from dynrefer.service.engine.fair_queue import FairQueue
from dynrefer.service.engine.reservations import Part, QueuedRequest, WorkItem, WorkKind
from dynrefer.service.errors import DeadlineExceeded
from tests.service.engine.conftest import WAIT_S, Harness, outputs


def test_requests_share_batches_and_take_turns(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    _, large = harness.submit(10, 20, 30, 40, 50, 60)
    _, small = harness.submit(70)
    harness.open()
    assert outputs(small) == [140] and len(outputs(large)) == 6
    assert harness.batches[1:] == [[10, 70, 20, 30], [40, 50, 60]]


def test_views_bound_a_batch(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_views=5)
    harness.occupy()
    _, future = harness.submit(13, 12, 19, 11, 11)
    harness.open()
    outputs(future)
    assert harness.batches[1:] == [[13, 12], [19], [11, 11]]


def test_keys_take_turns_and_so_do_their_requests(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    harness.occupy()
    futures = [
        harness.submit(*items, key=key)[1] for key, items in (("a", (10, 20)), ("a", (30, 40)), ("b", (50, 60, 70)))
    ]
    harness.open()
    for future in futures:
        outputs(future)
    assert [batch[0] for batch in harness.batches[1:]] == [10, 50, 30, 60, 20, 70, 40]


def test_a_request_in_parts_has_no_more_turns_than_one_in_one_part(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    harness.occupy()
    parts = harness.batcher.reserve(4, "a")
    futures = [
        parts.submit([10]),
        parts.submit([20, 30]),
        harness.submit(40, 50, key="a")[1],
        harness.submit(60, key="b")[1],
    ]
    futures.append(parts.submit([70]))
    harness.open()
    for future in futures:
        outputs(future)
    assert [batch[0] for batch in harness.batches[1:]] == [10, 60, 40, 20, 50, 30, 70]


FIND, COUNT = "find", "count"  # toy kinds


def test_a_batch_holds_one_kind_and_kinds_take_turns(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=2)
    harness.occupy()
    _, found = harness.submit(10, 20, 30, key="a", kind=FIND)
    _, counted = harness.submit(40, key="a", kind=COUNT)
    _, also_counted = harness.submit(50, 60, key="b", kind=COUNT)
    harness.open()
    assert outputs(found) == [20, 40, 60]
    assert outputs(counted) == [80] and outputs(also_counted) == [100, 120]
    assert harness.batches[1:] == [[10, 20], [40, 50], [30], [60]]
    assert harness.kinds[1:] == [FIND, COUNT, FIND, COUNT]


def test_a_kind_that_waits_alone_in_its_key_is_not_starved(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    harness.occupy()
    _, counted = harness.submit(*range(10, 200, 10), key="a", kind=COUNT)
    _, found = harness.submit(1, key="a", kind=FIND)
    harness.open()
    assert outputs(found) == [2] and len(outputs(counted)) == 19
    assert harness.batches[2] == [1]


def test_one_request_may_submit_several_kinds(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    with harness.batcher.reserve(4) as reservation:
        found, described = reservation.submit([10], FIND), reservation.submit([20, 30])
        harness.open()
        assert outputs(found) == [20] and outputs(described) == [40, 60]
    assert harness.batches[1:] == [[10], [20, 30]]
    assert harness.kinds[1:] == [FIND, WorkKind.DESCRIBE]


def test_failures_caps_and_deadlines_are_the_same_for_every_kind(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=4)

    def fail_or_run_out_of_memory(items: Sequence[int]) -> Sequence[int]:
        if 10 in items:
            raise ValueError
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    harness.occupy()
    harness.act = fail_or_run_out_of_memory
    _, found = harness.submit(10, 20, kind=FIND)
    _, late = harness.submit(30, kind=FIND, deadline=time.monotonic() - 1)
    _, counted = harness.submit(40, 50, 60, 70, kind=COUNT)
    harness.open()
    assert [type(result.error) for result in found.result(WAIT_S)] == [ValueError, type(None)]
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT_S)
    assert outputs(counted) == [40, 50, 60, 70]
    assert harness.batcher.cap == 2  # one bound for the device, whichever kind reached it
    assert harness.batches[1:] == [[10, 20], [10], [20], [40, 50, 60, 70], [40, 50], [60, 70]]


def test_one_item_of_each_request_that_is_not_excluded() -> None:
    queue: FairQueue[int, int] = FairQueue()
    requests = [QueuedRequest[int, int](10, key) for key in ("a", "a", "b")]
    for number, request in enumerate(requests):
        part = Part(request, FIND, 2, 0.0)
        queue.add([WorkItem(number * 10 + index, 1 + number, index, part) for index in range(2)])
    assert queue.next_kind == FIND and queue.next_cost == 1
    assert [each.item for each in queue.take_one_each(5, 100, requests[:1])] == [10, 20]
    assert [each.item for each in queue.take_one_each(1, 100, ())] == [0]
    assert [each.item for each in queue.take_one_each(5, 2, requests[:1])] == [11]  # the third costs more than is left
    assert queue.take_one_each(5, 100, requests) == []
    assert [each.item for each in queue.take(5, 100)] == [21, 1] and not queue

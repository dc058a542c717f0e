"""Whose turn it is: kinds, keys, requests."""

import time
from collections.abc import Callable, Sequence

import pytest

from dynrefer.model.errors import DeviceMemoryError
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.errors import DeadlineExceeded
from tests.service.engine.conftest import WAIT_S, Bench, outputs


def test_requests_share_batches_and_take_turns(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    _, large = one.ask(10, 20, 30, 40, 50, 60)
    _, small = one.ask(70)
    one.open()
    assert outputs(small) == [140] and len(outputs(large)) == 6
    assert one.batches[1:] == [[10, 70, 20, 30], [40, 50, 60]]


def test_views_bound_a_batch(bench: Callable[..., Bench]) -> None:
    one = bench(batch_views=5)
    one.occupy()
    _, future = one.ask(13, 12, 19, 11, 11)
    one.open()
    outputs(future)
    assert one.batches[1:] == [[13, 12], [19], [11, 11]]


def test_keys_take_turns_and_so_do_their_requests(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    one.occupy()
    asked = [one.ask(*items, key=key)[1] for key, items in (("a", (10, 20)), ("a", (30, 40)), ("b", (50, 60, 70)))]
    one.open()
    for future in asked:
        outputs(future)
    assert [batch[0] for batch in one.batches[1:]] == [10, 50, 30, 60, 20, 70, 40]


def test_a_request_in_parts_has_no_more_turns_than_one_in_one_part(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    one.occupy()
    parts = one.batcher.reserve(4, "a")
    asked = [parts.submit([10]), parts.submit([20, 30]), one.ask(40, 50, key="a")[1], one.ask(60, key="b")[1]]
    asked.append(parts.submit([70]))
    one.open()
    for future in asked:
        outputs(future)
    assert [batch[0] for batch in one.batches[1:]] == [10, 60, 40, 20, 50, 30, 70]


FIND, COUNT = "find", "count"  # toy kinds


def test_a_batch_holds_one_kind_and_kinds_take_turns(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=2)
    one.occupy()
    _, found = one.ask(10, 20, 30, key="a", kind=FIND)
    _, counted = one.ask(40, key="a", kind=COUNT)
    _, also_counted = one.ask(50, 60, key="b", kind=COUNT)
    one.open()
    assert outputs(found) == [20, 40, 60]
    assert outputs(counted) == [80] and outputs(also_counted) == [100, 120]
    assert one.batches[1:] == [[10, 20], [40, 50], [30], [60]]
    assert one.kinds[1:] == [FIND, COUNT, FIND, COUNT]


def test_a_kind_that_waits_alone_in_its_key_is_not_starved(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    one.occupy()
    _, counted = one.ask(*range(10, 200, 10), key="a", kind=COUNT)
    _, found = one.ask(1, key="a", kind=FIND)
    one.open()
    assert outputs(found) == [2] and len(outputs(counted)) == 19
    assert one.batches[2] == [1]


def test_one_request_may_submit_several_kinds(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    with one.batcher.reserve(4) as reservation:
        found, described = reservation.submit([10], FIND), reservation.submit([20, 30])
        one.open()
        assert outputs(found) == [20] and outputs(described) == [40, 60]
    assert one.batches[1:] == [[10], [20, 30]]
    assert one.kinds[1:] == [FIND, WorkKind.DESCRIBE]


def test_failures_caps_and_deadlines_are_the_same_for_every_kind(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=4)

    def fail_or_run_out_of_memory(items: Sequence[int]) -> Sequence[int]:
        if 10 in items:
            raise ValueError
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    one.occupy()
    one.act = fail_or_run_out_of_memory
    _, found = one.ask(10, 20, kind=FIND)
    _, late = one.ask(30, kind=FIND, deadline=time.monotonic() - 1)
    _, counted = one.ask(40, 50, 60, 70, kind=COUNT)
    one.open()
    assert [type(result.error) for result in found.result(WAIT_S)] == [ValueError, type(None)]
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT_S)
    assert outputs(counted) == [40, 50, 60, 70]
    assert one.batcher.cap == 2  # one bound for the device, whichever kind reached it
    assert one.batches[1:] == [[10, 20], [10], [20], [40, 50, 60, 70], [40, 50], [60, 70]]

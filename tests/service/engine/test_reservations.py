"""A request's room in the queue: admission, parts, release, cancelling."""

import time
from collections.abc import Callable

import pytest

from dynrefer.model.errors import StoppedError
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.errors import DeadlineExceeded, QueueFullError
from tests.service.engine.conftest import WAIT_S, Harness, outputs


def test_admission_is_whole_or_not_at_all(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(queue_regions=3)
    harness.occupy()
    first = harness.batcher.reserve(2)  # counted from admission on, not from submission
    with pytest.raises(QueueFullError) as refused:
        harness.batcher.reserve(2)
    assert refused.value.retry_after_s > 0
    assert harness.batcher.waiting == 2
    with harness.batcher.reserve(1):
        with first:
            pass
        assert harness.batcher.waiting == 1
    assert harness.batcher.waiting == 0


def test_cancelling_removes_what_has_not_begun(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    reservation, _ = harness.submit(10, 20)
    _, other = harness.submit(30)
    with reservation:
        pass
    assert harness.batcher.waiting == 1
    harness.open()
    assert outputs(other) == [60]
    assert harness.batches == [[0], [30]]


def test_cancelling_a_running_request_affects_no_other(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    reservation, _ = harness.submit(10, 20)
    assert harness.running.acquire(timeout=WAIT_S)
    with reservation:
        pass
    harness.open()
    _, other = harness.submit(30)
    assert outputs(other) == [60]
    assert harness.batches == [[10], [30]]


def test_no_more_can_be_submitted_than_was_reserved(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    with harness.batcher.reserve(2) as reservation:
        with pytest.raises(ValueError, match="3 regions were submitted where 2 were reserved"):
            reservation.submit([10, 20, 30])
        reservation.submit([10])
        with pytest.raises(ValueError, match="2 regions were submitted where 1 were reserved"):
            reservation.submit([20, 30])
        assert harness.batcher.waiting == 2
    with pytest.raises(ValueError, match="1 regions were submitted where 0 were reserved"):
        reservation.submit([20])


def test_a_reservation_is_used_in_parts(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(queue_regions=6)
    harness.open()
    with harness.batcher.reserve(5) as reservation:
        assert outputs(reservation.submit([10])) == [20]
        first, second = reservation.submit([20, 30]), reservation.submit([])
        assert outputs(first) == [40, 60] and outputs(second) == []
        assert harness.batcher.waiting == 2  # the rest is still this request's
        with pytest.raises(QueueFullError):
            harness.batcher.reserve(5)
        assert outputs(reservation.submit([40, 50])) == [80, 100]
    assert harness.batcher.waiting == 0


def test_what_is_not_used_is_given_back(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(queue_regions=5, key_regions=4)
    harness.occupy()
    with harness.batcher.reserve(4, "a") as reservation:
        part = reservation.submit([10], WorkKind.DESCRIBE)
        reservation.give_back()
        assert harness.batcher.waiting == 1
        with harness.batcher.reserve(3, "a"), pytest.raises(QueueFullError):
            harness.batcher.reserve(1, "a")
        with pytest.raises(ValueError, match="1 regions were submitted where 0 were reserved"):
            reservation.submit([20])
        harness.open()
        assert outputs(part) == [20]
    assert harness.batcher.waiting == 0
    with harness.batcher.reserve(4, "a"):
        pass


def test_leaving_with_parts_in_flight_takes_all_of_them_out(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    with harness.batcher.reserve(4) as reservation:
        running, queued = reservation.submit([10]), reservation.submit([20, 30])
        assert harness.running.acquire(timeout=WAIT_S)
        assert not harness.should_stop()
    assert harness.should_stop() and harness.batcher.waiting == 0
    for part in (running, queued):
        with pytest.raises(StoppedError):
            part.result(WAIT_S)
    harness.open()
    assert outputs(harness.submit(40)[1]) == [80]
    assert harness.batches == [[10], [40]]


def test_a_deadline_holds_for_all_parts_of_a_request(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    late = harness.batcher.reserve(3)
    in_time = late.submit([10])
    assert harness.running.acquire(timeout=WAIT_S)
    harness.open(1)
    assert outputs(in_time) == [20]
    harness.occupy()
    first, second = late.submit([20]), late.submit([30])
    _, other = harness.submit(40)
    late._request.deadline = time.monotonic()
    harness.open()
    for part in (first, second):
        with pytest.raises(DeadlineExceeded):
            part.result(WAIT_S)
    assert outputs(other) == [80]
    assert harness.batches == [[10], [0], [40]]


def test_a_key_has_its_share_of_the_queue(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(queue_regions=10, key_regions=4)
    harness.occupy()
    reservation, _ = harness.submit(10, 20, 30, key="a")
    with pytest.raises(QueueFullError) as refused:
        harness.batcher.reserve(2, "a")
    assert refused.value.reason == "key_share"
    with harness.batcher.reserve(1, "a"), harness.batcher.reserve(4, "b"), pytest.raises(QueueFullError) as refused:
        harness.batcher.reserve(3, "c")
    assert refused.value.reason == "queue_full"
    with reservation:
        pass  # what is given back can be reserved again
    with harness.batcher.reserve(4, "a"):
        pass


def test_retry_after_follows_the_measured_rate(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(queue_regions=100, batch_regions=4)
    harness.open()
    harness.act = lambda items: time.sleep(0.2) or items  # type: ignore[func-returns-value]
    outputs(harness.submit(*range(4))[1])
    with harness.batcher.reserve(100), pytest.raises(QueueFullError) as refused:
        harness.batcher.reserve(40)
    assert 1.0 < refused.value.retry_after_s < 10.0  # 40 regions at somewhat less than 20 a second

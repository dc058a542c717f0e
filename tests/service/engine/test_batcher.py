"""The queue between many requests and one device thread. Nothing here waits for a clock."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError
from dynrefer.service.engine import whole_batches
from dynrefer.service.engine.batcher import LONG_BATCH_S
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.engine.throughput import PATIENCE
from dynrefer.service.errors import DeadlineExceeded
from tests.service.engine.conftest import WAIT_S, Harness, outputs


def test_outputs_come_in_order(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.open()
    _, future = harness.submit(*range(10))
    assert outputs(future) == [item * 2 for item in range(10)]
    assert [len(batch) for batch in harness.batches] == [4, 4, 2]
    assert [result.batch for result in future.result()] == [1] * 4 + [2] * 4 + [3] * 2


@pytest.mark.parametrize("short", [False, True])
def test_a_failed_batch_fails_its_own_regions(make_harness: Callable[..., Harness], short: bool) -> None:
    harness = make_harness()

    def fail(items: Sequence[int]) -> Sequence[int]:
        if short:
            return items[1:]
        raise ValueError

    harness.open()
    harness.act = fail
    _, future = harness.submit(10, 20)
    errors = [result.error for result in future.result(WAIT_S)]
    assert all(isinstance(error, RuntimeError if short else ValueError) for error in errors)
    harness.act = lambda items: items
    _, after = harness.submit(30)
    assert outputs(after) == [30]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_fails_everything(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)

    def end(items: Sequence[int]) -> Sequence[int]:
        raise SystemExit

    harness.act = end
    _, running = harness.submit(10)
    assert harness.running.acquire(timeout=WAIT_S)
    reservation, queued = harness.submit(20)
    reserved = harness.batcher.reserve(1)
    harness.open(1)
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    with pytest.raises(ExecutorClosed):
        reserved.submit([30])
    with pytest.raises(ExecutorClosed):
        harness.batcher.reserve(1)
    with reservation, reserved:
        pass
    assert harness.batcher.waiting == 0


def test_closing_finishes_what_was_admitted(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    _, queued = harness.submit(10)
    reserved = harness.batcher.reserve(1)
    harness.batcher.close()
    with pytest.raises(ExecutorClosed):
        harness.batcher.reserve(1)
    harness.open()
    assert outputs(queued) == [20]
    assert outputs(reserved.submit([30])) == [60]
    harness.thread.join(WAIT_S)
    assert not harness.thread.is_alive() and harness.batcher.waiting == 0


def test_a_batch_waits_only_for_regions_that_are_reserved(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_wait_s=WAIT_S)
    harness.open()
    _, lone = harness.submit(10)
    assert outputs(lone) == [20]  # though the wait is long: nothing else was reserved
    reserved = harness.batcher.reserve(1)
    _, first = harness.submit(20)
    reserved.submit([30])
    outputs(first)
    assert harness.batches == [[10], [20, 30]]


def test_a_batch_waits_no_longer_than_it_may(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_wait_s=0.01)
    harness.open()
    with harness.batcher.reserve(1):
        _, first = harness.submit(20)
        assert outputs(first) == [40]


def test_a_batch_waits_in_proportion_to_what_the_last_one_cost(
    make_harness: Callable[..., Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_batches, "MOST_WAIT_S", WAIT_S)
    harness = make_harness(batch_wait_s=0.0)
    harness.open()
    reserved = harness.batcher.reserve(1)
    outputs(harness.submit(10)[1])  # at once: nothing is known of what a batch costs
    reserved.give_back()
    harness.batcher.began = harness.batcher.ended_at - 2 * WAIT_S / whole_batches.WAIT_SHARE
    _, lone = harness.submit(20)
    assert outputs(lone) == [40]  # though a batch costs so much: nothing else was reserved
    harness.batcher.began = harness.batcher.ended_at - 2 * WAIT_S / whole_batches.WAIT_SHARE
    reserved = harness.batcher.reserve(1)
    _, first = harness.submit(30)
    reserved.submit([40])
    outputs(first)
    assert harness.batches == [[10], [20], [30, 40]]


def test_image_work_waits_for_a_batch_only_where_it_would_take_its_cores(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    harness.batcher.wait_for_idle_cores()  # at once: the device has its own
    harness.batcher.shares_cores = True
    waiting = threading.Thread(target=harness.batcher.wait_for_idle_cores)
    waiting.start()
    harness.open(1)
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    began = time.monotonic()
    harness.occupy()
    harness.batcher.wait_for_idle_cores()
    assert time.monotonic() - began >= LONG_BATCH_S  # so long, but no longer


def test_a_failing_batch_is_split_until_the_failing_region_is_alone(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=8)

    def fail(items: Sequence[int]) -> Sequence[int]:
        if 40 in items:
            raise ValueError
        return [item * 2 for item in items]

    harness.occupy()
    harness.act = fail
    _, poisoned = harness.submit(10, 20, 30, 40)
    _, other = harness.submit(50, 60, 70)
    harness.open()
    assert outputs(other) == [100, 120, 140]
    found = poisoned.result(WAIT_S)
    assert [result.output for result in found] == [20, 40, 60, None]
    assert isinstance(found[3].error, ValueError)
    assert len(harness.batches) - 1 <= 2 * 3 + 1  # two runs per halving


def test_running_out_of_memory_lowers_the_cap_until_batches_succeed(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=8, queue_regions=10_000)

    def too_many(items: Sequence[int]) -> Sequence[int]:
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    harness.open(10_000)
    harness.act = too_many
    outputs(harness.submit(*range(8))[1])
    assert harness.batcher.cap == 2
    outputs(harness.submit(*range(2 * PATIENCE))[1])
    assert harness.batcher.cap == 4
    harness.act = lambda items: items
    outputs(harness.submit(*range(4 * PATIENCE))[1])
    assert harness.batcher.cap == 8


def test_one_region_that_never_fits_does_not_lower_the_cap(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=8)

    def too_large(items: Sequence[int]) -> Sequence[int]:
        if 70 in items:
            raise DeviceMemoryError
        return items

    harness.open()
    harness.act = too_large
    results = harness.submit(10, 20, 30, 70)[1].result(WAIT_S)
    assert [result.error is None for result in results] == [True, True, True, False]
    assert harness.batcher.cap == 8


def test_what_waits_beyond_its_deadline_is_not_run(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    _, late = harness.submit(10, deadline=time.monotonic() + 0.01)
    _, early = harness.submit(20)
    time.sleep(0.02)
    harness.open()
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT_S)
    assert outputs(early) == [40]
    assert harness.batches[1:] == [[20]]


def test_a_run_should_stop_once_no_client_waits(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness()
    harness.occupy()
    (first, _), (second, _) = harness.submit(10), harness.submit(20)
    harness.open(1)
    assert harness.running.acquire(timeout=WAIT_S)  # both are in the batch that is now at the gate
    assert not harness.should_stop()
    with first:
        pass
    assert not harness.should_stop()
    with second:
        pass
    assert harness.should_stop()


def test_a_lost_device_ends_the_loop(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)

    def end(items: Sequence[int]) -> Sequence[int]:
        raise DeviceLostError

    harness.act = end
    _, running = harness.submit(10)
    _, queued = harness.submit(20)
    harness.open()
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    harness.thread.join(WAIT_S)
    assert harness.ends == [DeviceLostError]


def test_suspending_fails_everything_and_resuming_admits_again(make_harness: Callable[..., Harness]) -> None:
    harness = make_harness(batch_regions=1)
    _, running = harness.submit(10)
    assert harness.running.acquire(timeout=WAIT_S)
    _, queued = harness.submit(20)
    reserved = harness.batcher.reserve(1)
    assert harness.batcher.silent_s > 0
    harness.batcher.suspend()
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    with pytest.raises(ExecutorClosed):
        harness.batcher.reserve(1)
    with reserved, pytest.raises(ExecutorClosed):
        reserved.submit([30])
    assert harness.batcher.waiting == 0
    harness.batcher.resume()
    harness.open()
    assert outputs(harness.submit(40)[1]) == [80]
    assert harness.batches == [[10], [40]] and harness.batcher.silent_s == 0

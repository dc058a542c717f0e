"""The queue between many requests and one device thread. Nothing here waits for a clock."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError
from dynrefer.service.engine.batcher import LONG_BATCH_S
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.engine.throughput import PATIENCE
from dynrefer.service.errors import DeadlineExceeded
from tests.service.engine.conftest import WAIT_S, Bench, outputs


def test_outputs_come_in_order(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.open()
    _, future = one.ask(*range(10))
    assert outputs(future) == [item * 2 for item in range(10)]
    assert [len(batch) for batch in one.batches] == [4, 4, 2]
    assert [result.batch for result in future.result()] == [1] * 4 + [2] * 4 + [3] * 2


@pytest.mark.parametrize("short", [False, True])
def test_a_failed_batch_fails_its_own_regions(bench: Callable[..., Bench], short: bool) -> None:
    one = bench()

    def fail(items: Sequence[int]) -> Sequence[int]:
        if short:
            return items[1:]
        raise ValueError

    one.open()
    one.act = fail
    _, future = one.ask(10, 20)
    errors = [result.error for result in future.result(WAIT_S)]
    assert all(isinstance(error, RuntimeError if short else ValueError) for error in errors)
    one.act = lambda items: items
    _, after = one.ask(30)
    assert outputs(after) == [30]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_end_of_the_thread_fails_everything(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)

    def end(items: Sequence[int]) -> Sequence[int]:
        raise SystemExit

    one.act = end
    _, running = one.ask(10)
    assert one.running.acquire(timeout=WAIT_S)
    reservation, queued = one.ask(20)
    reserved = one.batcher.reserve(1)
    one.open(1)
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    with pytest.raises(ExecutorClosed):
        reserved.submit([30])
    with pytest.raises(ExecutorClosed):
        one.batcher.reserve(1)
    with reservation, reserved:
        pass
    assert one.batcher.waiting == 0


def test_closing_finishes_what_was_admitted(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    _, queued = one.ask(10)
    reserved = one.batcher.reserve(1)
    one.batcher.close()
    with pytest.raises(ExecutorClosed):
        one.batcher.reserve(1)
    one.open()
    assert outputs(queued) == [20]
    assert outputs(reserved.submit([30])) == [60]
    one.thread.join(WAIT_S)
    assert not one.thread.is_alive() and one.batcher.waiting == 0


def test_a_batch_waits_only_for_regions_that_are_reserved(bench: Callable[..., Bench]) -> None:
    one = bench(batch_wait_s=WAIT_S)
    one.open()
    _, lone = one.ask(10)
    assert outputs(lone) == [20]  # though the wait is long: nothing else was reserved
    reserved = one.batcher.reserve(1)
    _, first = one.ask(20)
    reserved.submit([30])
    outputs(first)
    assert one.batches == [[10], [20, 30]]


def test_a_batch_waits_no_longer_than_it_may(bench: Callable[..., Bench]) -> None:
    one = bench(batch_wait_s=0.01)
    one.open()
    with one.batcher.reserve(1):
        _, first = one.ask(20)
        assert outputs(first) == [40]


def test_image_work_waits_for_a_batch_only_where_it_would_take_its_cores(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    one.batcher.wait_for_idle_cores()  # at once: the device has its own
    one.batcher.shares_cores = True
    waiting = threading.Thread(target=one.batcher.wait_for_idle_cores)
    waiting.start()
    one.open(1)
    waiting.join(WAIT_S)
    assert not waiting.is_alive()
    began = time.monotonic()
    one.occupy()
    one.batcher.wait_for_idle_cores()
    assert time.monotonic() - began >= LONG_BATCH_S  # so long, but no longer


def test_a_failing_batch_is_split_until_the_failing_region_is_alone(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=8)

    def fail(items: Sequence[int]) -> Sequence[int]:
        if 40 in items:
            raise ValueError
        return [item * 2 for item in items]

    one.occupy()
    one.act = fail
    _, poisoned = one.ask(10, 20, 30, 40)
    _, other = one.ask(50, 60, 70)
    one.open()
    assert outputs(other) == [100, 120, 140]
    found = poisoned.result(WAIT_S)
    assert [result.output for result in found] == [20, 40, 60, None]
    assert isinstance(found[3].error, ValueError)
    assert len(one.batches) - 1 <= 2 * 3 + 1  # two runs per halving


def test_running_out_of_memory_lowers_the_cap_until_batches_succeed(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=8, queue_regions=10_000)

    def too_many(items: Sequence[int]) -> Sequence[int]:
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    one.open(10_000)
    one.act = too_many
    outputs(one.ask(*range(8))[1])
    assert one.batcher.cap == 2
    outputs(one.ask(*range(2 * PATIENCE))[1])
    assert one.batcher.cap == 4
    one.act = lambda items: items
    outputs(one.ask(*range(4 * PATIENCE))[1])
    assert one.batcher.cap == 8


def test_one_region_that_never_fits_does_not_lower_the_cap(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=8)

    def too_large(items: Sequence[int]) -> Sequence[int]:
        if 70 in items:
            raise DeviceMemoryError
        return items

    one.open()
    one.act = too_large
    results = one.ask(10, 20, 30, 70)[1].result(WAIT_S)
    assert [result.error is None for result in results] == [True, True, True, False]
    assert one.batcher.cap == 8


def test_what_waits_beyond_its_deadline_is_not_run(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    _, late = one.ask(10, deadline=time.monotonic() + 0.01)
    _, early = one.ask(20)
    time.sleep(0.02)
    one.open()
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT_S)
    assert outputs(early) == [40]
    assert one.batches[1:] == [[20]]


def test_a_run_should_stop_once_nobody_waits(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    (first, _), (second, _) = one.ask(10), one.ask(20)
    one.open(1)
    assert one.running.acquire(timeout=WAIT_S)  # both are in the batch that is now at the gate
    assert not one.should_stop()
    with first:
        pass
    assert not one.should_stop()
    with second:
        pass
    assert one.should_stop()


def test_a_lost_device_ends_the_loop(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)

    def end(items: Sequence[int]) -> Sequence[int]:
        raise DeviceLostError

    one.act = end
    _, running = one.ask(10)
    _, queued = one.ask(20)
    one.open()
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    one.thread.join(WAIT_S)
    assert one.ends == [DeviceLostError]


def test_suspending_fails_everything_and_resuming_admits_again(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    _, running = one.ask(10)
    assert one.running.acquire(timeout=WAIT_S)
    _, queued = one.ask(20)
    reserved = one.batcher.reserve(1)
    assert one.batcher.silent_s > 0
    one.batcher.suspend()
    for future in (running, queued):
        with pytest.raises(ExecutorClosed):
            future.result(WAIT_S)
    with pytest.raises(ExecutorClosed):
        one.batcher.reserve(1)
    with reserved, pytest.raises(ExecutorClosed):
        reserved.submit([30])
    assert one.batcher.waiting == 0
    one.batcher.resume()
    one.open()
    assert outputs(one.ask(40)[1]) == [80]
    assert one.batches == [[10], [40]] and one.batcher.silent_s == 0

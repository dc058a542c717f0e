"""The queue between many requests and one device thread. Nothing here waits for a clock."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, StoppedError
from dynrefer.service.engine.batcher import LONG_BATCH_S, Batcher, Limits
from dynrefer.service.engine.reservations import ExecutorClosed, Kind, RegionResult, Reservation, WorkKind
from dynrefer.service.engine.throughput import PATIENCE
from dynrefer.service.errors import DeadlineExceeded, QueueFullError

WAIT_S = 10


class Bench:
    """A batcher of integers (cost: the integer's last digit), whose device thread runs behind a gate."""

    def __init__(self, **limits: float) -> None:
        chosen = {
            "queue_regions": 100,
            "batch_regions": 4,
            "batch_views": 1_000,
            "batch_wait_s": 0.0,
            **limits,
        }
        self.batcher: Batcher[int, int] = Batcher(Limits(**chosen), lambda item: item % 10)  # type: ignore[arg-type]
        self.batches: list[list[int]] = []
        self.kinds: list[Kind] = []
        self.gate = threading.Semaphore(0)
        self.running = threading.Semaphore(0)
        self.act: Callable[[Sequence[int]], Sequence[int]] = lambda items: [item * 2 for item in items]
        self.should_stop: Callable[[], bool] = lambda: False
        self.ends: list[type[BaseException]] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            self.batcher.serve(self._run)
        except DeviceLostError as error:
            self.ends.append(type(error))

    def _run(self, kind: Kind, items: Sequence[int], should_stop: Callable[[], bool]) -> Sequence[int]:
        self.batches.append(list(items))
        self.kinds.append(kind)
        self.should_stop = should_stop
        self.running.release()
        assert self.gate.acquire(timeout=WAIT_S)
        return self.act(items)

    def ask(
        self, *items: int, key: str | None = None, deadline: float = math.inf, kind: Kind = WorkKind.DESCRIBE
    ) -> tuple[Reservation[int, int], Future[list[RegionResult[int]]]]:
        reservation = self.batcher.reserve(len(items), key, deadline)
        return reservation, reservation.submit(items, kind)

    def open(self, batches: int = 100) -> None:
        self.gate.release(batches)

    def occupy(self) -> None:
        """Have the device busy with a region, so that what follows queues up."""
        self.ask(0)
        assert self.running.acquire(timeout=WAIT_S)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**limits: float) -> Bench:
        made.append(Bench(**limits))
        return made[-1]

    yield make
    for each in made:
        each.batcher.close()
        each.open()
        each.thread.join(WAIT_S)
        assert not each.thread.is_alive()


def outputs(future: Future[list[RegionResult[int]]]) -> list[int | None]:
    return [result.output for result in future.result(WAIT_S)]


def test_outputs_come_in_order(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.open()
    _, future = one.ask(*range(10))
    assert outputs(future) == [item * 2 for item in range(10)]
    assert [len(batch) for batch in one.batches] == [4, 4, 2]
    assert [result.batch for result in future.result()] == [1] * 4 + [2] * 4 + [3] * 2


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


def test_admission_is_whole_or_not_at_all(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=3)
    one.occupy()
    first = one.batcher.reserve(2)  # counted from admission on, not from submission
    with pytest.raises(QueueFullError) as refused:
        one.batcher.reserve(2)
    assert refused.value.retry_after_s > 0
    assert one.batcher.waiting == 2
    with one.batcher.reserve(1):
        with first:
            pass
        assert one.batcher.waiting == 1
    assert one.batcher.waiting == 0


def test_withdrawing_takes_out_what_has_not_begun(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    reservation, _ = one.ask(10, 20)
    _, other = one.ask(30)
    with reservation:
        pass
    assert one.batcher.waiting == 1
    one.open()
    assert outputs(other) == [60]
    assert one.batches == [[0], [30]]


def test_withdrawing_while_it_runs_harms_nobody(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    reservation, _ = one.ask(10, 20)
    assert one.running.acquire(timeout=WAIT_S)
    with reservation:
        pass
    one.open()
    _, other = one.ask(30)
    assert outputs(other) == [60]
    assert one.batches == [[10], [30]]


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


def test_a_batch_waits_for_reserved_company_alone(bench: Callable[..., Bench]) -> None:
    one = bench(batch_wait_s=WAIT_S)
    one.open()
    _, lone = one.ask(10)
    assert outputs(lone) == [20]  # though the wait is long: nobody else was reserved
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


def test_no_more_is_handed_in_than_was_reserved(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    with one.batcher.reserve(2) as reservation:
        with pytest.raises(ValueError, match="3 regions were handed in where 2 were reserved"):
            reservation.submit([10, 20, 30])
        reservation.submit([10])
        with pytest.raises(ValueError, match="2 regions were handed in where 1 were reserved"):
            reservation.submit([20, 30])
        assert one.batcher.waiting == 2
    with pytest.raises(ValueError, match="1 regions were handed in where 0 were reserved"):
        reservation.submit([20])


def test_a_reservation_is_used_in_parts(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=6)
    one.open()
    with one.batcher.reserve(5) as reservation:
        assert outputs(reservation.submit([10])) == [20]
        first, second = reservation.submit([20, 30]), reservation.submit([])
        assert outputs(first) == [40, 60] and outputs(second) == []
        assert one.batcher.waiting == 2  # the rest is still this request's
        with pytest.raises(QueueFullError):
            one.batcher.reserve(5)
        assert outputs(reservation.submit([40, 50])) == [80, 100]
    assert one.batcher.waiting == 0


def test_what_is_not_used_is_given_back(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=5, key_regions=4)
    one.occupy()
    with one.batcher.reserve(4, "a") as reservation:
        part = reservation.submit([10], WorkKind.DESCRIBE)
        reservation.give_back()
        assert one.batcher.waiting == 1
        with one.batcher.reserve(3, "a"), pytest.raises(QueueFullError):
            one.batcher.reserve(1, "a")
        with pytest.raises(ValueError, match="1 regions were handed in where 0 were reserved"):
            reservation.submit([20])
        one.open()
        assert outputs(part) == [20]
    assert one.batcher.waiting == 0
    with one.batcher.reserve(4, "a"):
        pass


def test_leaving_with_parts_in_flight_takes_all_of_them_out(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    with one.batcher.reserve(4) as reservation:
        running, queued = reservation.submit([10]), reservation.submit([20, 30])
        assert one.running.acquire(timeout=WAIT_S)
        assert not one.should_stop()
    assert one.should_stop() and one.batcher.waiting == 0
    for part in (running, queued):
        with pytest.raises(StoppedError):
            part.result(WAIT_S)
    one.open()
    assert outputs(one.ask(40)[1]) == [80]
    assert one.batches == [[10], [40]]


def test_a_deadline_is_its_requests_whatever_part_it_was_handed_in_with(bench: Callable[..., Bench]) -> None:
    one = bench()
    late = one.batcher.reserve(3, deadline=time.monotonic() + 0.5)
    in_time = late.submit([10])
    assert one.running.acquire(timeout=WAIT_S)
    one.open(1)
    assert outputs(in_time) == [20]
    one.occupy()
    first, second = late.submit([20]), late.submit([30])
    _, other = one.ask(40)
    time.sleep(0.6)
    one.open()
    for part in (first, second):
        with pytest.raises(DeadlineExceeded):
            part.result(WAIT_S)
    assert outputs(other) == [80]
    assert one.batches == [[10], [0], [40]]


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


def test_one_request_may_hand_in_several_kinds(bench: Callable[..., Bench]) -> None:
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

    def crowd(items: Sequence[int]) -> Sequence[int]:
        if 10 in items:
            raise ValueError
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    one.occupy()
    one.act = crowd
    _, found = one.ask(10, 20, kind=FIND)
    _, late = one.ask(30, kind=FIND, deadline=time.monotonic() - 1)
    _, counted = one.ask(40, 50, 60, 70, kind=COUNT)
    one.open()
    assert [type(result.error) for result in found.result(WAIT_S)] == [ValueError, type(None)]
    with pytest.raises(DeadlineExceeded):
        late.result(WAIT_S)
    assert outputs(counted) == [40, 50, 60, 70]
    assert one.batcher.cap == 2  # a bound of the device's, whichever kind met it
    assert one.batches[1:] == [[10, 20], [10], [20], [40, 50, 60, 70], [40, 50], [60, 70]]


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


def test_keys_take_turns_and_so_do_their_requests(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    one.occupy()
    asked = [one.ask(*items, key=key)[1] for key, items in (("a", (10, 20)), ("a", (30, 40)), ("b", (50, 60, 70)))]
    one.open()
    for future in asked:
        outputs(future)
    assert [batch[0] for batch in one.batches[1:]] == [10, 50, 30, 60, 20, 70, 40]


def test_a_key_has_its_share_of_the_queue(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=10, key_regions=4)
    one.occupy()
    reservation, _ = one.ask(10, 20, 30, key="a")
    with pytest.raises(QueueFullError) as refused:
        one.batcher.reserve(2, "a")
    assert refused.value.reason == "key_share"
    with one.batcher.reserve(1, "a"), one.batcher.reserve(4, "b"), pytest.raises(QueueFullError) as refused:
        one.batcher.reserve(3, "c")
    assert refused.value.reason == "queue_full"
    with reservation:
        pass  # what is given back may be asked for again
    with one.batcher.reserve(4, "a"):
        pass


def test_retry_after_follows_the_measured_rate(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=100, batch_regions=4)
    one.open()
    one.act = lambda items: time.sleep(0.2) or items  # type: ignore[func-returns-value]
    outputs(one.ask(*range(4))[1])
    with one.batcher.reserve(100), pytest.raises(QueueFullError) as refused:
        one.batcher.reserve(40)
    assert 1.0 < refused.value.retry_after_s < 10.0  # 40 regions at somewhat less than 20 a second


def test_a_failing_batch_is_split_down_to_the_guilty(bench: Callable[..., Bench]) -> None:
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


def test_crowding_lowers_the_cap_until_things_go_well(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=8, queue_regions=10_000)

    def crowd(items: Sequence[int]) -> Sequence[int]:
        if len(items) > 2:
            raise DeviceMemoryError
        return items

    one.open(10_000)
    one.act = crowd
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


def test_a_run_is_told_to_stop_once_nobody_waits(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    (first, _), (second, _) = one.ask(10), one.ask(20)
    one.open(1)
    assert one.running.acquire(timeout=WAIT_S)  # both are in the batch that now stands at the gate
    assert not one.should_stop()
    with first:
        pass
    assert not one.should_stop()
    with second:
        pass
    assert one.should_stop()


def test_a_run_after_which_none_can_follow_ends_the_loop(bench: Callable[..., Bench]) -> None:
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


def test_suspending_fails_what_there_is_and_resuming_takes_more(bench: Callable[..., Bench]) -> None:
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

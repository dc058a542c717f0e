"""The queue between many requests and one device thread. Nothing here waits for a clock."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from dynrefer.service.engine.batch_errors import BatcherClosed, DeadlineExceeded, DeviceLost, QueueFull
from dynrefer.service.engine.batcher import Batcher, Limits, Reservation
from dynrefer.service.engine.fair_queue import RegionResult
from dynrefer.service.engine.throughput import PATIENCE

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
        except DeviceLost as error:
            self.ends.append(type(error))

    def _run(self, items: Sequence[int], should_stop: Callable[[], bool]) -> Sequence[int]:
        self.batches.append(list(items))
        self.should_stop = should_stop
        self.running.release()
        assert self.gate.acquire(timeout=WAIT_S)
        return self.act(items)

    def ask(
        self, *items: int, key: str | None = None, deadline: float = math.inf
    ) -> tuple[Reservation[int, int], Future[list[RegionResult[int]]]]:
        ticket = self.batcher.admit(len(items), key, deadline)
        return ticket, ticket.submit(items)

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
    return [outcome.output for outcome in future.result(WAIT_S)]


def test_outputs_come_in_order(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.open()
    _, future = one.ask(*range(10))
    assert outputs(future) == [item * 2 for item in range(10)]
    assert [len(batch) for batch in one.batches] == [4, 4, 2]
    assert [outcome.batch for outcome in future.result()] == [1] * 4 + [2] * 4 + [3] * 2


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
    first = one.batcher.admit(2)  # counted from admission on, not from submission
    with pytest.raises(QueueFull) as refused:
        one.batcher.admit(2)
    assert refused.value.retry_after_s > 0
    assert one.batcher.waiting == 2
    with one.batcher.admit(1):
        with first:
            pass
        assert one.batcher.waiting == 1
    assert one.batcher.waiting == 0


def test_withdrawing_takes_out_what_has_not_begun(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    ticket, _ = one.ask(10, 20)
    _, other = one.ask(30)
    with ticket:
        pass
    assert one.batcher.waiting == 1
    one.open()
    assert outputs(other) == [60]
    assert one.batches == [[0], [30]]


def test_withdrawing_while_it_runs_harms_nobody(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    ticket, _ = one.ask(10, 20)
    assert one.running.acquire(timeout=WAIT_S)
    with ticket:
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
    errors = [outcome.error for outcome in future.result(WAIT_S)]
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
    ticket, queued = one.ask(20)
    announced = one.batcher.admit(1)
    one.open(1)
    for future in (running, queued):
        with pytest.raises(BatcherClosed):
            future.result(WAIT_S)
    with pytest.raises(BatcherClosed):
        announced.submit([30])
    with pytest.raises(BatcherClosed):
        one.batcher.admit(1)
    with ticket, announced:
        pass
    assert one.batcher.waiting == 0


def test_closing_finishes_what_was_admitted(bench: Callable[..., Bench]) -> None:
    one = bench()
    one.occupy()
    _, queued = one.ask(10)
    announced = one.batcher.admit(1)
    one.batcher.close()
    with pytest.raises(BatcherClosed):
        one.batcher.admit(1)
    one.open()
    assert outputs(queued) == [20]
    assert outputs(announced.submit([30])) == [60]
    one.thread.join(WAIT_S)
    assert not one.thread.is_alive() and one.batcher.waiting == 0


def test_a_batch_waits_for_announced_company_alone(bench: Callable[..., Bench]) -> None:
    one = bench(batch_wait_s=WAIT_S)
    one.open()
    _, lone = one.ask(10)
    assert outputs(lone) == [20]  # though the wait is long: nobody else was announced
    announced = one.batcher.admit(1)
    _, first = one.ask(20)
    announced.submit([30])
    outputs(first)
    assert one.batches == [[10], [20, 30]]


def test_a_batch_waits_no_longer_than_it_may(bench: Callable[..., Bench]) -> None:
    one = bench(batch_wait_s=0.01)
    one.open()
    with one.batcher.admit(1):
        _, first = one.ask(20)
        assert outputs(first) == [40]


def test_numbers_must_match(bench: Callable[..., Bench]) -> None:
    with (
        bench().batcher.admit(2) as ticket,
        pytest.raises(ValueError, match="2 regions were admitted, 1 handed in"),
    ):
        ticket.submit([1])


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
    ticket, _ = one.ask(10, 20, 30, key="a")
    with pytest.raises(QueueFull) as refused:
        one.batcher.admit(2, "a")
    assert refused.value.reason == "key_share"
    with one.batcher.admit(1, "a"), one.batcher.admit(4, "b"), pytest.raises(QueueFull) as refused:
        one.batcher.admit(3, "c")
    assert refused.value.reason == "queue_full"
    with ticket:
        pass  # what is given back may be asked for again
    with one.batcher.admit(4, "a"):
        pass


def test_retry_after_follows_the_measured_rate(bench: Callable[..., Bench]) -> None:
    one = bench(queue_regions=100, batch_regions=4)
    one.open()
    one.act = lambda items: time.sleep(0.2) or items  # type: ignore[func-returns-value]
    outputs(one.ask(*range(4))[1])
    with one.batcher.admit(100), pytest.raises(QueueFull) as refused:
        one.batcher.admit(40)
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
    assert [outcome.output for outcome in found] == [20, 40, 60, None]
    assert isinstance(found[3].error, ValueError)
    assert len(one.batches) - 1 <= 2 * 3 + 1  # two runs per halving


def test_crowding_lowers_the_cap_until_things_go_well(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=8, queue_regions=10_000)

    def crowd(items: Sequence[int]) -> Sequence[int]:
        if len(items) > 2:
            raise MemoryError
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
            raise MemoryError
        return items

    one.open()
    one.act = too_large
    outcomes = one.ask(10, 20, 30, 70)[1].result(WAIT_S)
    assert [outcome.error is None for outcome in outcomes] == [True, True, True, False]
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
        raise DeviceLost

    one.act = end
    _, running = one.ask(10)
    _, queued = one.ask(20)
    one.open()
    for future in (running, queued):
        with pytest.raises(BatcherClosed):
            future.result(WAIT_S)
    one.thread.join(WAIT_S)
    assert one.ends == [DeviceLost]


def test_suspending_fails_what_there_is_and_resuming_takes_more(bench: Callable[..., Bench]) -> None:
    one = bench(batch_regions=1)
    _, running = one.ask(10)
    assert one.running.acquire(timeout=WAIT_S)
    _, queued = one.ask(20)
    announced = one.batcher.admit(1)
    assert one.batcher.silent_s > 0
    one.batcher.suspend()
    for future in (running, queued):
        with pytest.raises(BatcherClosed):
            future.result(WAIT_S)
    with pytest.raises(BatcherClosed):
        one.batcher.admit(1)
    with announced, pytest.raises(BatcherClosed):
        announced.submit([30])
    assert one.batcher.waiting == 0
    one.batcher.resume()
    one.open()
    assert outputs(one.ask(40)[1]) == [80]
    assert one.batches == [[10], [40]] and one.batcher.silent_s == 0

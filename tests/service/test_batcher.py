"""The queue between many requests and one device thread. Nothing here waits for a clock."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from service.batcher import (
    Batcher,
    ClosedError,
    FullError,
    Limits,
    Ticket,
)
from service.turns import Outcome

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
        self.thread = threading.Thread(target=self.batcher.serve, args=(self._run,), daemon=True)
        self.thread.start()

    def _run(self, items: Sequence[int], should_stop: Callable[[], bool]) -> Sequence[int]:
        self.batches.append(list(items))
        self.running.release()
        assert self.gate.acquire(timeout=WAIT_S)
        return self.act(items)

    def ask(self, *items: int) -> tuple[Ticket[int, int], Future[list[Outcome[int]]]]:
        ticket = self.batcher.admit(len(items))
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


def outputs(future: Future[list[Outcome[int]]]) -> list[int | None]:
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
    with pytest.raises(FullError) as refused:
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
        with pytest.raises(ClosedError):
            future.result(WAIT_S)
    with pytest.raises(ClosedError):
        announced.submit([30])
    with pytest.raises(ClosedError):
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
    with pytest.raises(ClosedError):
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

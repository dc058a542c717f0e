"""Shared by the engine's tests: a batcher of integers whose device thread waits at a gate before each batch."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import pytest

from dynrefer.model.errors import DeviceLostError
from dynrefer.service.engine.batcher import Batcher, Limits
from dynrefer.service.engine.reservations import Kind, RegionResult, Reservation, WorkKind

WAIT_S = 10


class Harness:
    """A batcher of integers (cost: the integer's last digit), whose device thread waits at a gate before each batch."""

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

    def submit(
        self, *items: int, key: str | None = None, deadline: float = math.inf, kind: Kind = WorkKind.DESCRIBE
    ) -> tuple[Reservation[int, int], Future[list[RegionResult[int]]]]:
        reservation = self.batcher.reserve(len(items), key, deadline)
        return reservation, reservation.submit(items, kind)

    def open(self, batches: int = 100) -> None:
        self.gate.release(batches)

    def occupy(self) -> None:
        """Have the device busy with a region, so that what follows queues up."""
        self.submit(0)
        assert self.running.acquire(timeout=WAIT_S)


@pytest.fixture
def make_harness() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**limits: float) -> Harness:
        made.append(Harness(**limits))
        return made[-1]

    yield make
    for each in made:
        each.batcher.close()
        each.open()
        each.thread.join(WAIT_S)
        assert not each.thread.is_alive()


def outputs(future: Future[list[RegionResult[int]]]) -> list[int | None]:
    return [result.output for result in future.result(WAIT_S)]

"""What fails, ends early or is cancelled is let go of: nobody holds it any more."""

import asyncio
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from dynrefer.model.errors import ModelError, StoppedError
from dynrefer.service.engine.reservations import Part, QueuedRequest, RegionResult, WorkKind
from dynrefer.service.errors import DeadlineExceeded
from dynrefer.service.scale.ray.messages import Call, Reply
from tests.fakes import context_of
from tests.service.scale.ray.replicas_here import WAIT_S, Does, Replicas, dies, never_ends, started, until


def test_leaving_a_reservation_lets_go_of_what_was_submitted() -> None:
    executor = started(Replicas("left", {"a": never_ends}))
    with executor.reserve(3, context_of()) as reservation:
        future = reservation.submit([1, 2])
    with pytest.raises(StoppedError):
        future.result(WAIT_S)
    until(lambda: executor.counts.waiting == 0)


class Prepared:
    """What is submitted: weakly referenced, so that one sees when nobody holds it any more."""


def raises(call: Call, items: list[Any]) -> Reply:
    raise RuntimeError("a fault of the replica's own")


def refuses(call: Call, items: list[Any]) -> Reply:
    return Reply(None, "the replica's queue is full")


def fails_alone(call: Call, items: list[Any]) -> Reply:
    raise ModelError("these regions cannot be described.")


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (dies, None),
        (raises, RuntimeError),
        (fails_alone, None),
        (never_ends, DeadlineExceeded),
        (refuses, DeadlineExceeded),
    ],
    ids=["dies", "raises", "fails alone", "late", "refused"],
)
def test_what_fails_is_let_go_of_without_the_garbage_collector(
    does: Does, expected: type[Exception] | None, uncollected: None
) -> None:
    replicas = Replicas(f"let go {does.__name__}", {"a": does})
    executor = started(replicas)
    timeout_s = 0.5 if expected is DeadlineExceeded else 60.0

    async def request(items: list[Prepared]) -> None:
        with executor.reserve(len(items), context_of(timeout_s=timeout_s)) as reservation:
            results = await asyncio.wrap_future(reservation.submit(items))
            assert expected is None and all(isinstance(each.error, ModelError) for each in results)

    async def failing() -> list["weakref.ref[Prepared]"]:
        items = [Prepared(), Prepared()]
        with nullcontext() if expected is None else pytest.raises(expected):
            await request(items)
        replicas.seen.clear()
        return [weakref.ref(each) for each in items]

    left = asyncio.run(failing())
    until(lambda: not any(each() for each in left))


def test_what_is_cancelled_is_let_go_of_without_the_garbage_collector(uncollected: None) -> None:
    replicas = Replicas("let go cancelled", {"a": never_ends})
    executor = started(replicas)

    async def request(items: list[Prepared]) -> None:
        with executor.reserve(len(items), context_of()) as reservation:
            await asyncio.wrap_future(reservation.submit(items))

    async def departing() -> list["weakref.ref[Prepared]"]:
        items = [Prepared(), Prepared()]
        task = asyncio.create_task(request(items))
        while not replicas.seen:
            await asyncio.sleep(0.01)
        replicas.seen.clear()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [weakref.ref(each) for each in items]

    left = asyncio.run(departing())
    until(lambda: not any(each() for each in left))


def test_a_request_may_be_cancelled_at_the_moment_of_its_answer() -> None:
    """The future's checks and its setting are one step: two threads do both."""
    executor = started(Replicas("moment", {"a": never_ends}))
    request: QueuedRequest[int, int] = QueuedRequest(1)
    part: Part[int, int] = Part(request, WorkKind.DESCRIBE, 1, 0.0)
    request.parts.append(part)

    class Slow(Future):  # type: ignore[type-arg]
        def done(self) -> bool:
            found = super().done()
            time.sleep(0.1)
            return found

    future = part.future = Slow()
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(executor.cancel, request)
        executor._record(part, 0, RegionResult(1, None, 0.0, 0))
        cancelling.result(WAIT_S)  # raises what either did
    assert future.done()

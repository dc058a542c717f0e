"""The first error itself is raised once the others have ended, and nothing is held for the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dynrefer.service.engine.all_or_first_error import all_or_first_error


class Held:
    """What a piece of work holds."""


async def ends(after_s: float, outcome: object, ended: list[object]) -> object:
    try:
        await asyncio.sleep(after_s)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
    finally:
        await asyncio.sleep(0)  # cleaning up takes a while
        ended.append(outcome)


def test_results_stand_in_order() -> None:
    async def scene() -> None:
        ended: list[object] = []
        assert await all_or_first_error([ends(0.02, "a", ended), ends(0.0, "b", ended)]) == ["a", "b"]
        assert ended == ["b", "a"]
        assert await all_or_first_error([]) == []

    asyncio.run(scene())


def test_the_first_error_is_raised_itself_once_the_others_have_ended() -> None:
    error = LookupError("the first")

    async def scene() -> None:
        ended: list[object] = []
        works = [ends(60.0, "never", ended), ends(0.01, error, ended), ends(60.0, "never either", ended)]
        with pytest.raises(LookupError) as raised:
            await all_or_first_error(works)
        assert raised.value is error and set(ended) == {error, "never", "never either"}

    asyncio.run(scene())


def test_what_fails_while_it_is_cancelled_is_no_complaint_of_asyncio() -> None:
    complaints: list[dict[str, Any]] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while it was cancelled")

    async def fails() -> None:
        raise LookupError

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        with pytest.raises(LookupError):
            await all_or_first_error([stubborn(), fails()])
        gc.collect()

    asyncio.run(scene())
    assert complaints == []


async def _cancelled(work: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    finally:
        del task


async def _failed(work: Coroutine[Any, Any, Any]) -> None:
    await work


@pytest.mark.parametrize(
    ("outcome", "run", "raised"),
    [(LookupError(), _failed, LookupError), ("late", _cancelled, asyncio.CancelledError)],
    ids=["failed", "cancelled"],
)
def test_it_ends_what_it_began_and_holds_nothing(
    outcome: object, run: Callable[[Coroutine[Any, Any, Any]], Any], raised: type[BaseException], uncollected: None
) -> None:
    async def work(held: Held, after_s: float, ended: list[object]) -> object:
        return await ends(after_s, outcome, ended)

    async def scene() -> None:
        ended: list[object] = []
        held = [Held(), Held()]
        works = [work(held[0], 0.0 if raised is LookupError else 60.0, ended), work(held[1], 60.0, ended)]
        left = [weakref.ref(each) for each in held]
        del held
        with pytest.raises(raised):
            await run(all_or_first_error(works))
        del works
        assert len(ended) == 2
        await asyncio.sleep(0)  # the event loop lets go of what woke this task
        if isinstance(outcome, Exception):
            outcome.__traceback__ = None  # this test holds the error
        assert [each() for each in left] == [None, None]

    asyncio.run(scene())

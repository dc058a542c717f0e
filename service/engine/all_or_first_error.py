"""Several pieces of work of one request at a time, of which the first to fail fails all."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_or_first_error(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all, in order. Once one fails, or this is cancelled, the others are cancelled, and their ends
    awaited.

    Raises the first error itself, where `asyncio.TaskGroup` raises a group in which all of them keep what they held.
    What others raise while they are cancelled is nobody's affair any more.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _ended(tasks)
        # A task keeps its error, the error's trace keeps this function, and this function would keep the task.
        tasks.clear()


async def _ended(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

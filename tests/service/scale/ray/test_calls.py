"""Calls that any replica may answer: made again where one hangs or dies, and not for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import ActorDiedError

from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.scale.ray.calls import first_answer

WITHIN_S = (0.02, 0.02, 5.0)


async def hangs() -> str:
    """As a replica that is stopped."""
    await asyncio.sleep(60)
    return "never"


async def dies() -> str:
    """As one that was killed."""
    raise ActorDiedError


async def answers() -> str:
    """As one should."""
    return "here"


class Response:
    """As Serve returns them."""

    def __init__(self, answer: Awaitable[str | None]) -> None:
        self._answer = answer

    def cancel(self) -> None:
        """Noted."""
        cancelled.append(self)

    def __await__(self) -> Any:
        return self._answer.__await__()


cancelled: list[Response] = []


def in_turn(*replicas: Callable[[], Awaitable[str | None]]) -> Callable[[], Response]:
    """Makes each call to the next one."""
    left = iter(replicas)
    cancelled.clear()
    return lambda: Response(next(left)())


def test_a_replica_that_hangs_is_waited_for_for_a_while_only() -> None:
    assert asyncio.run(first_answer(in_turn(hangs, hangs, answers), WITHIN_S)) == "here"
    assert len(cancelled) == 2, "what was called in vain is let go of"


def test_a_replica_that_died_is_left_for_another() -> None:
    assert asyncio.run(first_answer(in_turn(dies, answers), WITHIN_S)) == "here"


def test_a_replica_with_another_model_is_left_for_one_that_has_the_right_one() -> None:
    async def other() -> None:
        """As a replica of another version."""

    assert asyncio.run(first_answer(in_turn(other, answers), WITHIN_S)) == "here"


def test_none_answers() -> None:
    with pytest.raises(ExecutorClosed):
        asyncio.run(first_answer(in_turn(hangs, dies, hangs), (0.02,) * 3))


def test_what_the_replica_itself_raises_is_raised() -> None:
    async def refuses() -> str:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        asyncio.run(first_answer(in_turn(refuses, answers), WITHIN_S))

"""A call to some replica: made again on another one where the first dies, hangs or does not take it.

What replicas do has no effects, so a call may be made twice. It ends with its answer, at its deadline, or once it has
seen too many replicas die: then its own items are to blame.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from dynrefer.model.errors import DeviceError
from dynrefer.service.engine.reservations import ExecutorClosed
from dynrefer.service.errors import DeadlineExceeded
from dynrefer.service.scale.ray.board import Board, Sent
from dynrefer.service.scale.ray.messages import Call, Reply

logger = logging.getLogger(__name__)

MOST_DEATHS = 3  # of replicas that were at work on one call
AGAIN_S = 0.05, 1.0  # before a call that was not taken is made again: at first, and at most
# For what takes milliseconds: a thread that finishes requests waits for it. By the third attempt it is known which
# replicas are silent.
WITHIN_S = 1.5, 3.0, 6.0, 12.0
LATE = "The deadline passed while the regions waited for a replica or were being described."


class Response(Protocol):
    """What a call of Serve's handle returns."""

    def cancel(self) -> None:
        """Let the replica drop it."""

    def __await__(self) -> Any:
        """The replica's answer."""


class ReplicaDied(Exception):
    """The replica that was at work on a call ended ("died"), or did not answer any more ("silent")."""


class Calls:
    """Calls of one application's replicas. For one event loop.

    run: makes the call of `ModelReplica.run`. again: called with a reason when a call is made again.
    """

    def __init__(
        self, run: Callable[[Call, Any], Response], board: Board, again: Callable[[str], None] = lambda _: None
    ) -> None:
        self._run = run
        self._board = board
        self._again = again
        self._waiting: dict[str, asyncio.Future[Any]] = {}  # by call: the answer that is awaited
        self._given_up: set[str] = set()

    async def answered(self, call: Call, handed_over: Any, deadline: float) -> Reply:
        """The first reply with results. handed_over: what goes with it, where every replica can read it.

        deadline: on the monotonic clock. Raises DeadlineExceeded, and DeviceError where replicas die of it.
        """
        deaths, pause_s, avoid = 0, AGAIN_S[0], set[str]()
        while (left_s := deadline - time.monotonic()) > 0:
            attempt = replace(call, id=uuid.uuid4().hex, left_s=left_s if left_s != float("inf") else None)
            try:
                async with asyncio.timeout(attempt.left_s):
                    reply = await self._once(attempt, handed_over, avoid)
                if reply.results is not None:
                    return reply
                logger.debug("a call is made again: %s", reply.refusal)
                self._again("refused")
            except ReplicaDied as error:
                deaths += 1
                reason = str(error)  # a line that waits to be written would keep the error, and with it the items
                logger.warning("a replica was lost (%s) while it was at work on %d region(s)", reason, call.regions)
                self._again(reason)
                if deaths >= MOST_DEATHS:
                    raise DeviceError(f"{deaths} replicas ended while they were at work on these regions.") from None
            except TimeoutError:
                break
            await asyncio.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(2 * pause_s, AGAIN_S[1])
        raise DeadlineExceeded(LATE)

    def give_up_silent(self) -> None:
        """Make the calls elsewhere that are with replicas which do not answer. Called now and then."""
        for name, sent in list(self._board.calls.items()):
            if sent.replica is not None and self._board.is_silent(sent.replica) and name in self._waiting:
                self._given_up.add(name)
                self._waiting[name].cancel()

    async def _once(self, call: Call, handed_over: Any, avoid: set[str]) -> Reply:
        """avoid: where not to if there is another replica; the one that it went to is added. Raises ReplicaDied."""
        sent = self._board.calls[call.id] = Sent(call.load, avoid=frozenset(avoid), image=call.image)
        response = self._run(call, handed_over)
        waiting = self._waiting[call.id] = asyncio.ensure_future(_awaited(response))
        try:
            return cast("Reply", await waiting)
        except asyncio.CancelledError:
            response.cancel()
            if call.id in self._given_up:
                raise ReplicaDied("silent") from None
            raise
        except RayServeException as error:
            return Reply(None, f"Serve has no replica for it: {error}")
        except Exception as error:
            raise_unless_gone(error)
            raise ReplicaDied("died") from None
        finally:
            if sent.replica is not None:
                avoid.add(sent.replica)
            self._board.calls.pop(call.id, None)
            self._waiting.pop(call.id, None)
            self._given_up.discard(call.id)
            # They keep the error, whose trace keeps this function and what was handed over.
            del waiting, response


async def first_answer(make: Callable[[], Response], within_s: Sequence[float] = WITHIN_S) -> Any:
    """Of a call that any replica may answer; made again where one dies, hangs, or has another model and answers None.

    within_s: how long each attempt may take. Raises ExecutorClosed after the last.
    """
    for limit_s in within_s:
        response = make()
        try:
            async with asyncio.timeout(limit_s):
                if (answer := await response) is not None:
                    return answer
            await asyncio.sleep(AGAIN_S[0])
        except TimeoutError:
            response.cancel()
            logger.warning("a replica did not answer within %g s", limit_s)
        except asyncio.CancelledError:
            response.cancel()
            raise
        except Exception as error:
            raise_unless_gone(error)
            logger.warning("a replica ended before it answered: %s", type(error).__name__)
            await asyncio.sleep(AGAIN_S[0])
    raise ExecutorClosed


def raise_unless_gone(error: Exception) -> None:
    """Raise what the replica itself raised; return where it, its machine or what was sent to it is gone."""
    try:
        if isinstance(error, RayTaskError):
            raise error.cause if isinstance(error.cause, Exception) else error
        if not is_gone(error):
            raise error
    finally:
        del error  # its trace keeps this function


def is_gone(error: Exception) -> bool:
    """Whether the replica, its machine or what was sent to it is gone, and nothing was raised by the replica itself."""
    return isinstance(error, RayError | RayServeException) and not isinstance(error, RayTaskError)


async def _awaited(response: Response) -> Any:
    return await response

"""An edge's rounds: it asks every replica how it is, and puts what they answer on the board and in the metrics."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from ray.exceptions import RayError, RayTaskError

from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.ray.board import ASK_EVERY_S, SILENT_S, TO, Board, Seen
from dynrefer.service.scale.ray.calls import is_gone
from dynrefer.service.scale.ray.messages import EdgeState

logger = logging.getLogger(__name__)


class Rounds:
    """Of one edge, on its loop. ask: `state.remote` of Serve's handle. waiting: how many regions the edge has admitted
    and not answered, which every replica is told and tells the other edges."""

    def __init__(self, ask: Callable[..., Any], board: Board, metrics: Metrics, waiting: Callable[[], int]) -> None:
        self._ask, self._board, self._metrics, self._waiting = ask, board, metrics, waiting
        self._edge = uuid.uuid4().hex
        self._owed: dict[str, asyncio.Task[None]] = {}  # by replica: it owes an answer

    async def hear_one(self) -> None:
        """Until a replica has said how it is, or none of those that are there does."""
        self.ask_all()
        while self._owed and not self._board.states:
            await asyncio.wait(self._owed.values(), return_when=asyncio.FIRST_COMPLETED)

    def ask_all(self) -> None:
        """How the replicas are, but for those that still owe an answer: one that hangs keeps no other from being
        heard."""
        for name, seen in list(self._board.replicas.items()):
            if name not in self._owed:
                task = self._owed[name] = asyncio.get_running_loop().create_task(self._hear(name, seen))
                task.add_done_callback(partial(self._answered, name))

    def _answered(self, name: str, _: asyncio.Task[None]) -> None:
        del self._owed[name]

    async def _hear(self, name: str, seen: Seen) -> None:
        response = self._ask(seen.batch, EdgeState(self._edge, self._waiting()), **{TO: name})
        try:
            async with asyncio.timeout(ASK_EVERY_S if seen.state else SILENT_S):
                state = await response
        except TimeoutError:
            with contextlib.suppress(RayError):  # the cluster may have ended meanwhile
                response.cancel()
            return
        except Exception as error:  # of this replica alone, which is silent then
            if not is_gone(error) and not seen.faulty:
                seen.faulty = True
                cause = error.cause if isinstance(error, RayTaskError) else error
                logger.warning("a replica cannot say how it is: %r", cause)
            return
        self._board.answered(name, state)
        for number, regions, views in state.batches:
            self._metrics.observe_batch(regions, views)
            seen.batch = number
        self._metrics.device_oom.inc(max(0, state.out_of_memory - seen.out_of_memory))
        seen.out_of_memory = state.out_of_memory

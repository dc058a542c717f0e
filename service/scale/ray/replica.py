"""A replica: one device with its model, batcher and queue, as the plain service has them, in an actor of Ray Serve.

Replicas answer calls of any edge; what they answer is finished records, so
that an edge needs neither torch nor the model.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from dynrefer.model import Candidates, Findings, FindQuery, Predictor, RegionDescription, RegionQuery, RequestVocabulary
from dynrefer.model.errors import ModelError
from dynrefer.service.app import loader
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.device_thread import DeviceThread
from dynrefer.service.engine.executor import Phase
from dynrefer.service.engine.reservations import ExecutorClosed, RegionResult, WorkKind
from dynrefer.service.errors import QueueFullError
from dynrefer.service.observability import logs
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.ray.edges import Edges
from dynrefer.service.scale.ray.messages import Call, EdgeState, ReplicaModel, ReplicaState, Reply
from dynrefer.service.scale.redis_store import open_store
from dynrefer.service.settings import Settings

Result = TypeVar("Result")

BATCHES_KEPT = 1_000  # for edges that ask what was run since they asked before
WATCH_EVERY_S = 0.02


class BatchRecord(Metrics):
    """The metrics of a replica, which nobody reads there: edges ask for its batches and count them."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: deque[tuple[int, int, int]] = deque(maxlen=BATCHES_KEPT)
        self._number = 0

    def observe_batch(self, regions: int, views: int) -> None:
        """Note it too."""
        super().observe_batch(regions, views)
        self._number += 1
        self.batches.append((self._number, regions, views))


class ModelReplica:
    """settings: of the service. location: of the model. Returns from `__init__` once the model is warm.

    version: of the application; see `Replicas`. make: the predictor, given by tests. Raises ModelError where it cannot
    be loaded.
    """

    def __init__(
        self,
        settings: Settings,
        location: str,
        version: str = "",
        make: Callable[[], Predictor[Any, Any]] | None = None,
    ) -> None:
        logs.configure(settings)
        self._version = version
        self._metrics = BatchRecord()
        # Edges bound what one key has waiting, in all replicas together.
        own = settings.model_copy(
            update={"model": location, "max_key_regions": 0, "api_keys": (), "api_keys_file": None}
        )
        self._shared = open_store(own)
        load = make or loader(own, None, shared=self._shared)
        self._executor: DeviceThread[Any, Any] = DeviceThread(own, load, self._metrics)
        self._cpu_pool = ThreadPoolExecutor(1, thread_name_prefix="cpu")
        self._edges = Edges()
        self._words_pool = ThreadPoolExecutor(1, thread_name_prefix="words")
        self._executor.start(lambda: None)
        while self._executor.phase is Phase.LOADING:
            time.sleep(WATCH_EVERY_S)
        if self._executor.failure is not None:
            raise self._executor.failure
        if self._executor.predictor is None:
            raise ModelError("the device was lost while the model was loaded.")
        self._predictor = self._executor.predictor
        card = self._predictor.card
        self._identity = f"{card.name} {card.revision} {card.dtype}"

    async def model(self, version: str) -> ReplicaModel | None:
        """What an edge has to know; None where it is of another version of the application."""
        if version != self._version:
            return None
        predictor = self._predictor
        return ReplicaModel(
            predictor.card,
            predictor.preparation,
            predictor.segmentation,
            predictor.finding,
            predictor.conversing,
            self._identity,
        )

    async def state(self, since: int = 0, edge: EdgeState | None = None, to: str = "") -> ReplicaState:
        """As of now; batches: after the one of this number. It answers at once, whatever the device does.

        edge: who asks. to: the replica that is asked; see `board.TO`.
        """
        batches = tuple(each for each in list(self._metrics.batches) if each[0] > since)
        out_of_memory = self._metrics.registry.get_sample_value("dynrefer_device_oom_total") or 0
        counts = self._executor.counts
        if self._shared is not None:
            counts = replace(counts, shared_cache=self._shared.counts)
        of_others = self._edges.heard(edge)
        return ReplicaState(self._executor.phase, counts, batches, int(out_of_memory), of_others, self._identity)

    async def run(self, call: Call, items: Sequence[Any]) -> Reply:
        """Run prepared items, and finish what came of regions. Cancelling it takes them out of the queue.

        items: as in `Reservation.submit`; their arrays may be read-only. A turn goes on at `Call.written`.
        """
        if call.model != self._identity:
            return Reply(None, "another model")
        if call.kind is WorkKind.CONVERSE:
            items = [replace(each, written=call.written) for each in items]
        context = RequestContext(
            id=call.request_id,
            caller=call.caller,
            timeout_s=math.inf if call.left_s is None else call.left_s,
            deadline=math.inf if call.left_s is None else time.monotonic() + call.left_s,
            began=time.perf_counter(),
        )
        try:
            with self._executor.reserve(len(items), context) as reservation:
                for vocabulary in _vocabularies(items):
                    await self._in(self._words_pool, partial(self._predictor.understand, vocabulary))
                results = await asyncio.wrap_future(reservation.submit(items, call.kind))
            if call.kind is not WorkKind.DESCRIBE:
                return Reply(results)
            return Reply(await self._in(self._cpu_pool, partial(self._finished, items, results)))
        except ExecutorClosed:
            return Reply(None, f"the replica is {self._executor.phase.value}")
        except QueueFullError:
            return Reply(None, "the replica's queue is full")

    async def look_again(self, model: str, query: FindQuery, found: Candidates) -> Sequence[RegionQuery] | None:
        """See `Predictor`. model: as of `Call`; None where this replica has another one."""
        if model != self._identity:
            return None
        return await self._in(self._cpu_pool, partial(self._predictor.look_again, query, found))

    async def findings(
        self,
        model: str,
        query: FindQuery,
        found: Candidates,
        looked: Sequence[RegionDescription],
        size: tuple[int, int],
    ) -> Findings | None:
        """See `Predictor`, and `look_again`."""
        if model != self._identity:
            return None
        return await self._in(self._cpu_pool, partial(self._predictor.findings, query, found, looked, size))

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica that raises. Raises ModelError for a lost device."""
        if self._executor.lost:
            raise ModelError("the device is lost.")

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve, for `autoscaling.by_regions`: the regions that wait for the device or are on it."""
        counts = self._executor.counts
        return {"regions": float(counts.waiting + counts.running)}

    def __del__(self) -> None:
        """Called by Serve once nothing is under way any more."""
        with contextlib.suppress(AttributeError):  # it was never loaded
            self._executor.close()
            if self._shared is not None:
                self._shared.close()

    def _finished(
        self, items: Sequence[Any], results: Sequence[RegionResult[Any]]
    ) -> list[RegionResult[RegionDescription]]:
        return [self._finished_one(item, result) for item, result in zip(items, results, strict=True)]

    def _finished_one(self, item: Any, result: RegionResult[Any]) -> RegionResult[RegionDescription]:
        if result.error is not None:
            return result
        try:
            return replace(result, output=self._predictor.finish(item, result.output))
        except Exception as error:
            # The border of the model: whatever it raises belongs to this region.
            return replace(result, output=None, error=error)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _vocabularies(items: Sequence[Any]) -> list[RequestVocabulary]:
    """The lists of words that come with regions, each once: a replica works out what they mean where it needs them."""
    found: dict[bytes, RequestVocabulary] = {}
    for item in items:
        vocabulary = getattr(getattr(item, "query", None), "vocabulary", None)
        if vocabulary is not None:
            found.setdefault(vocabulary.digest, vocabulary)
    return list(found.values())

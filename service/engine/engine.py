"""What the routes talk to: it admits a request, has its image prepared, its regions run and its outputs finished.

Image work runs in worker processes (`service/workers`), parsing, finishing and the writing of responses in a thread, so
that they never wait behind images; the event loop only waits. What is prepared is run by the `Executor` of the model
that serves, which a request holds from `Engine.model` until its answer (`serving.py`).
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from dynrefer.model import (
    NO_CONVERSER,
    NO_FINDER,
    ModelCard,
    Preparation,
    RegionDescription,
    RegionQuery,
    RequestVocabulary,
    Spoken,
    lack_masks,
    with_masks,
)
from dynrefer.model.errors import ConversationError, FinderError, ImageError, ModelError, QueryError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine.conversing import Answering, ConverseInput, ConverseResult, Conversing
from dynrefer.service.engine.detecting import (
    DetectInput,
    DetectResult,
    StageTimes,
    info_of,
    only_result,
    regions_of,
)
from dynrefer.service.engine.executor import Executor, Phase, watch_executor
from dynrefer.service.engine.passes import ImageWorkers, Passes
from dynrefer.service.engine.reservations import ExecutorClosed, WorkKind
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.engine.serving import Models, ModelSource, Serving
from dynrefer.service.errors import QueueFullError, RegionFailedError, UnavailableError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.workers.image_task import DescribeInput

Result = TypeVar("Result")

# Of one request: the next are decoded while the device describes the first, and others have their turn in between.
IMAGES_UNDER_WAY = 4
EMBEDDED = ModelSource("embedded", "embedded")


class Engine:
    """executor: runs the regions, with the model of `source`. image_workers: prepare them. upstream: answers questions
    in the place of the model's converser."""

    def __init__(
        self,
        executor: Executor[Any, Any],
        image_workers: ImageWorkers,
        metrics: Metrics,
        source: ModelSource = EMBEDDED,
        upstream: Answering | None = None,
    ) -> None:
        self._metrics = metrics
        self._image_workers = image_workers
        self._passes = Passes(image_workers, self.run_in_cpu_pool)
        self._upstream = upstream
        self._cpu_pool = ThreadPoolExecutor(1, thread_name_prefix="cpu")
        # Thousands of new words take seconds, for which no other request's parsing and writing waits.
        self._words_pool = ThreadPoolExecutor(1, thread_name_prefix="words")
        self._drain_began: float | None = None  # on the monotonic clock
        self._in_flight = 0  # work under way for requests; touched by the event loop alone
        self.models = Models(Serving(source, executor))
        watch_executor(metrics, self.models.counts)

    @property
    def serving(self) -> Serving:
        """The model that serves now."""
        return self.models.serving

    @property
    def phase(self) -> Phase:
        """READY means loaded, warmed up, able to run, and not draining."""
        return Phase.DRAINING if self._drain_began is not None else self.serving.executor.phase

    def require_ready(self) -> None:
        """Raises UnavailableError, with the phase in its sentence, unless it is READY."""
        if self.phase is not Phase.READY:
            raise self._unavailable(self.serving)

    @property
    def failure(self) -> ModelError | None:
        """Why the model could not be loaded."""
        return self.serving.executor.failure

    @property
    def lost(self) -> bool:
        """Whether the device thread ended without a request to stop, or was given up."""
        return self.serving.executor.lost

    @property
    def card(self) -> ModelCard:
        """What is known about the model that serves now. Raises UnavailableError while there is none.

        A request that is answered by it takes the card of `model`: by its end another may serve.
        """
        if self.serving.executor.predictor is None:
            raise self._unavailable(self.serving)
        return self.serving.card

    @property
    def loaded_at(self) -> float:
        """When the loaded model was ready, in seconds since the epoch."""
        return self.serving.executor.loaded_at

    def start(self, on_loss: Callable[[], None] = lambda: None) -> None:
        """Begin loading; `phase` says when it is done. on_loss: called in a thread when the device is given up.

        Called on the event loop.
        """
        self._image_workers.start()
        self.models.start(on_loss)

    def wait_for_idle_cores(self) -> None:
        """See `Executor`; of the model that serves now."""
        self.serving.executor.wait_for_idle_cores()

    def begin_drain(self) -> None:
        """Not ready from now on and nothing new is admitted; what is admitted goes on. Safe in a signal handler."""
        if self._drain_began is None:
            self._drain_began = time.monotonic()

    def grace_left(self, grace_s: float) -> float:
        """What is left, in seconds, of the time that work has from the beginning of the drain; all of it before."""
        return grace_s if self._drain_began is None else max(0.0, self._drain_began + grace_s - time.monotonic())

    async def stop(self, grace_s: float) -> None:
        """Drain, then end the threads. What has not run within the grace time is given up."""
        self.begin_drain()
        until = time.monotonic() + grace_s
        while self._in_flight and time.monotonic() < until:
            await asyncio.sleep(0.01)
        # Not before: between two pieces of an answer a request has nothing in the queue, and goes on all the same.
        self.models.close()
        await self._image_workers.stop()
        for pool in (self._cpu_pool, self._words_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    async def run_in_cpu_pool(self, work: Callable[[], Result]) -> Result:
        """Run CPU work that is not on an image in a thread: parsing requests, finishing and writing responses."""
        return await self._run_in(self._cpu_pool, work)

    async def _run_in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        with self._counted():
            in_context = partial(contextvars.copy_context().run, work)
            return await asyncio.get_running_loop().run_in_executor(pool, in_context)

    def check_room(self, context: RequestContext) -> None:
        """Refuse, before the body is parsed, what would be refused afterwards. Raises as `describe` does."""
        with self.model() as model, self._refusals(model), model.executor.reserve(1, context):
            pass

    @contextmanager
    def model(self) -> Iterator[Serving]:
        """The model that answers a request, which is the same one, and stays, until the block is left.

        Raises UnavailableError, and counts it, unless the phase is READY.
        """
        model = self.serving
        if model.executor.predictor is None or self.phase is not Phase.READY:
            self._metrics.rejected.labels("unavailable").inc()
            raise self._unavailable(model)
        with model.hold(), self._counted():
            yield model

    def held(self, model: Serving | None) -> AbstractContextManager[Serving]:
        """The model that a request holds already, else the one that serves now."""
        return self.model() if model is None else nullcontext(model)

    async def understand(self, vocabulary: RequestVocabulary, model: Serving | None = None) -> None:
        """Let the model work out what a request's words mean to it, away from the device's thread. Raises
        UnavailableError."""
        with self.held(model) as held:
            await self._run_in(self._words_pool, partial(held.predictor.understand, vocabulary))

    async def describe(
        self, request: DescribeInput, context: RequestContext, model: Serving | None = None
    ) -> DescribeResult:
        """Describe the regions of one image; cancelling it takes its regions out of the queue.

        model: what the request holds; None: the model that serves now.
        Raises QueueFullError or UnavailableError before any work is done, DeadlineExceeded, QueryError,
        RegionFailedError, and what the functions of `request` raise.
        """
        with self.held(model) as held, self._refusals(held):
            with held.executor.reserve(request.num_regions, context) as reservation:
                finish = await self._passes.describe(reservation, held.predictor, request, context)
            result = await self.run_in_cpu_pool(finish)
        self._metrics.observe_stages(result.timings_ms)
        return result

    async def describe_each(
        self, requests: Sequence[DescribeInput], context: RequestContext, model: Serving | None = None
    ) -> list[DescribeResult | Exception]:
        """Describe the regions of several images, admitted as a whole; cancelling it takes all out of the queue.

        Results in the order of `requests`; what is an image's own fault stands in its place. Raises as `describe` does
        what concerns all of them.
        """
        under_way = asyncio.Semaphore(IMAGES_UNDER_WAY)

        async def one(request: DescribeInput) -> DescribeResult | Exception:
            try:
                async with under_way:
                    finish = await self._passes.describe(reservation, held.predictor, request, context)
                return await self.run_in_cpu_pool(finish)
            except Exception as error:
                if not _is_of_its_image(error):
                    raise
                return error

        total = sum(each.num_regions for each in requests)
        with (
            self.held(model) as held,
            self._refusals(held),
            held.executor.reserve(total, context) as reservation,
        ):
            results = await _all_or_first_error([one(each) for each in requests])
        for each in results:
            if isinstance(each, DescribeResult):
                self._metrics.observe_stages(each.timings_ms)
        return results

    async def detect(self, request: DetectInput, context: RequestContext, model: Serving | None = None) -> DetectResult:
        """Find regions of one image, and describe them if that is asked for; cancelling it takes all of its work out of
        the queue.

        Raises as `describe` does, and FinderError without a finder.
        """
        with self.held(model) as held, self._refusals(held):
            if held.predictor.finding is None:
                raise FinderError(NO_FINDER)
            result = await self._detect(held, request, context)
        self._metrics.observe_stages(result.timings_ms)
        self._metrics.found_regions.observe(len(result.findings.regions))
        return result

    async def _detect(self, model: Serving, request: DetectInput, context: RequestContext) -> DetectResult:
        began_ns, times = time.time_ns(), StageTimes()
        query, predictor = request.query, model.predictor
        with model.executor.reserve(request.room, context) as reservation:
            image = await self._image_workers.prepare(
                cast("Preparation[Any]", predictor.finding), request.to_find, context
            )
            info = info_of(image)
            found = only_result(await asyncio.wrap_future(reservation.submit(image.ready, WorkKind.FIND)))
            looks = await self.run_in_cpu_pool(partial(predictor.look_again, query, found))
            reservation.keep(max(len(looks), query.max_regions if request.goes_on else 0))
            times.ended("find")
            to_look = request.about(request.with_looks(looks))
            looked = await self._passes.describe_found(predictor, reservation, to_look, context)
            answered = partial(predictor.findings, query, found, regions_of(looked), (info.width, info.height))
            findings = await self.run_in_cpu_pool(answered)
            if looks:
                times.ended("look")
            if lack_masks(findings, query) and predictor.segmentation is not None:
                boxes = request.about([RegionQuery(box=each.box) for each in findings.regions])
                masks = await self._passes.masks_in_boxes(predictor, reservation, boxes, context)
                work = partial(with_masks, findings, masks, (info.width, info.height))
                findings = await self.run_in_cpu_pool(work)
                times.ended("masks")
            descriptions: tuple[RegionDescription, ...] = ()
            if request.describes_by(looks):
                times.described(looked)
                descriptions = tuple(each.description for each in findings.regions if each.description is not None)
            elif request.to_describe is not None:
                wanted = [replace(request.to_describe, box=each.box) for each in findings.regions]
                last = await self._passes.describe_found(predictor, reservation, request.about(wanted), context)
                times.described(last)
                descriptions = regions_of(last)
        timings_ms = {"decode": image.decode_ms, **times.timings_ms}
        return DetectResult(info, findings, descriptions, began_ns, timings_ms)

    async def converse(
        self, request: ConverseInput, context: RequestContext, model: Serving | None = None
    ) -> AsyncGenerator[Spoken | ConverseResult, None]:
        """Answer a question about one image: the answer as far as it is written, again and again, and last the result.

        Closing it, or cancelling what waits for it, ends the work. Raises as `describe` does, and ConversationError
        where nothing answers questions.
        """
        began_ns, tokens = time.time_ns(), 0
        with self.held(model) as held, self._refusals(held):
            if self._upstream is None and held.predictor.conversing is None:
                raise ConversationError(NO_CONVERSER)
            with held.executor.reserve(request.room, context) as reservation:
                conversing = Conversing(self._passes, held.predictor, reservation, self.run_in_cpu_pool, self._upstream)
                async with aclosing(conversing.answer(request, context, began_ns)) as steps:
                    async for step in steps:
                        if isinstance(step, ConverseResult):
                            self._metrics.observe_stages(step.timings_ms)
                        else:
                            self._metrics.observe_reply(tokens, step.reply.tokens, context.began)
                            tokens = step.reply.tokens
                        yield step

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """`stop` waits for what runs inside."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    @contextmanager
    def _refusals(self, model: Serving) -> Iterator[None]:
        """Count what the model's executor refuses; say in which phase it is closed."""
        try:
            yield
        except QueueFullError as error:
            self._metrics.rejected.labels(error.reason).inc()
            raise
        except ExecutorClosed:
            raise self._unavailable(model) from None

    def _unavailable(self, model: Serving) -> UnavailableError:
        phase = Phase.DRAINING if self._drain_began is not None else model.executor.phase
        # Ready and yet refused: the device ended between two looks.
        return UnavailableError(f"The service is {(Phase.LOST if phase is Phase.READY else phase).value}.")


def _is_of_its_image(error: Exception) -> bool:
    """Whether only the image that it came from is to blame, or its regions: others are described all the same."""
    if isinstance(error, UnavailableError):  # with fields: the device's memory is too small for these regions
        return bool(error.fields)
    return isinstance(error, QueryError | ImageError | RegionFailedError)


async def _all_or_first_error(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all, in order; the first error ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]

"""Requests that ask about an image: up to three passes over it, with one place in the queue and one deadline.

Where points are given, the first finds their masks. The next prepares the turn, whose answer is written in pieces: each
is an item of its own, so that other requests have their turn in between, and a client that leaves ends the work with
the piece that is under way. In the last the describer looks at the boxes of the answer, if there are any.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from dynrefer.model import given_queries, queries_to_verify, with_verdicts, within_image
from dynrefer.model.errors import DeviceMemoryError, OutputError, QueryError, StoppedError
from dynrefer.service.engine.detecting import StageTimes, info_of, regions_of
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.engine.turn_preparation import TurnPreparation, conversations
from dynrefer.service.errors import DeadlineExceeded, RegionFailedError, ServiceError, UnavailableError
from dynrefer.service.workers.image_task import DescribeInput

if TYPE_CHECKING:
    from dynrefer.model import (
        Conversation,
        ConverserSpec,
        ConverseTurn,
        DecodedImage,
        ImageInfo,
        Predictor,
        RegionQuery,
        Reply,
        Spoken,
    )
    from dynrefer.service.context import RequestContext
    from dynrefer.service.engine.passes import Passes
    from dynrefer.service.engine.reservations import RegionResult, Reservation
    from dynrefer.service.workers.image_task import PreparedImage

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
InCpuPool = Callable[[Callable[[], "Reply"]], Awaitable["Reply"]]


class Answering(Protocol):
    """Who writes the answers: the converser of the model that serves (`Pieces`), or another service.

    One object for all requests where another service does; the engine is given it.
    """

    @property
    def spec(self) -> ConverserSpec:
        """How images are prepared for it. It pickles, for worker processes."""

    def pieces(
        self, turn: ConverseTurn, conversation: Conversation, context: RequestContext
    ) -> AsyncGenerator[Spoken, None]:
        """The answer as far as it is written, again and again, until it is `done`; at least once.

        It is closed where nobody wants the rest. conversation: of the turn, with its regions'
        boxes in pixels of the upright image. context: whose deadline bounds each wait. Raises what is to be answered:
        `UnavailableError`, `DeadlineExceeded`.
        """


@dataclass(frozen=True, slots=True)
class Pieces:
    """An `Answering`: the model's converser writes, in the place of the queue that a request has."""

    spec: ConverserSpec
    reservation: Reservation[Any, Any]

    async def pieces(
        self, turn: ConverseTurn, conversation: Conversation, context: RequestContext
    ) -> AsyncGenerator[Spoken, None]:
        """See `Answering`. Each piece is one item, and afterwards there is room for one again: a queue that is being
        closed waits for whoever has room in it."""
        while True:
            spoken = _only(await asyncio.wrap_future(self.reservation.submit([turn], WorkKind.CONVERSE)))
            self.reservation.renew(1)
            yield spoken
            if spoken.done:
                return
            turn = turn.after(spoken)


@dataclass(frozen=True, slots=True)
class ConverseInput:
    """An encoded image, and what is asked about it. image, decode, queries, pointed, prompts: as in `DescribeInput`, of
    the regions that messages may refer to.

    ids: of these regions. conversation: what is asked, without its regions. verify: whether the describer looks at the
    answer's boxes.
    """

    image: bytes
    decode: Callable[..., DecodedImage]
    queries: Callable[[ImageInfo], Sequence[RegionQuery]]
    ids: tuple[str, ...]
    conversation: Conversation
    verify: bool = True
    pointed: tuple[int, ...] = ()
    prompts: int = 0

    @property
    def room(self) -> int:
        """What the request reserves: its points, or a piece of the answer."""
        return max(1, len(self.pointed))

    @property
    def regions(self) -> DescribeInput:
        """The regions, for the pass that finds the masks of those with points."""
        return DescribeInput(
            len(self.ids), self.image, self.decode, self.queries, pointed=self.pointed, prompts=self.prompts
        )

    def turn(self, regions: DescribeInput) -> DescribeInput:
        """The work of the pass that prepares the turn. regions: of this request, with the masks of their points."""
        # What is asked is no region, but it is prepared and run as one.
        queries: Callable[..., Sequence[Any]] = partial(conversations, regions.queries, self.ids, self.conversation)
        return replace(regions, num_regions=1, queries=queries, pointed=(), report_errors=False)

    def about(self, regions: Sequence[RegionQuery]) -> DescribeInput:
        """The work of the pass that looks at boxes of the answer. One that cannot be looked at is no error of the
        request's."""
        queries = partial(given_queries, tuple(regions))
        return DescribeInput(len(regions), self.image, self.decode, queries, report_errors=True)


@dataclass(frozen=True, slots=True)
class ConverseResult:
    """A request's result, before it has a schema. began_ns: when the first pass began, in nanoseconds since 1970.
    timings_ms: by stage, in order."""

    info: ImageInfo
    reply: Reply
    began_ns: int
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Conversing:
    """What one request is answered with. upstream: who writes answers in the place of the model."""

    passes: Passes
    predictor: Predictor[Any, Any]
    reservation: Reservation[Any, Any]
    run_in_cpu_pool: InCpuPool
    upstream: Answering | None = None

    async def answer(
        self, request: ConverseInput, context: RequestContext, began_ns: int
    ) -> AsyncGenerator[Spoken | ConverseResult, None]:
        """The answer as far as it is written, again and again, and last the result."""
        times = StageTimes()
        answering = self.upstream or self._own
        regions = request.regions
        if request.pointed and self.predictor.segmentation is not None:
            found = await self.passes.find_masks(self.reservation, self.predictor.segmentation, regions, context)
            regions = found.request
            times.ended("points")
        # Where others answer, nothing waits for the device meanwhile.
        self.reservation.keep(1 if self.upstream is None else 0)
        # As of a search: what is asked is prepared as regions are.
        preparation: Any = TurnPreparation(self.predictor.preparation, answering.spec)
        image: PreparedImage[Any] = await self.passes.workers.prepare(preparation, request.turn(regions), context)
        (turn,) = image.ready
        spoken = None
        async with aclosing(answering.pieces(turn, turn.conversation, context)) as pieces:
            async for spoken in pieces:
                yield spoken
        if spoken is None or not spoken.done:
            raise _failed(OutputError("an answer ended before it was complete."))
        info = info_of(image)
        reply = _checked(within_image(spoken.reply, (info.width, info.height)))
        times.ended("converse")
        looks = queries_to_verify(reply) if request.verify else []
        self.reservation.keep(len(looks))
        if looks:
            reply = await self._verified(reply, request.about(looks), context)
            times.ended("verify")
        yield ConverseResult(info, reply, began_ns, {"decode": image.decode_ms, **times.timings_ms})

    @property
    def _own(self) -> Pieces:
        spec = self.predictor.conversing
        assert spec is not None, "a model without a converser was asked"
        return Pieces(spec, self.reservation)

    async def _verified(self, reply: Reply, looks: DescribeInput, context: RequestContext) -> Reply:
        described = await self.passes.describe_found(self.predictor, self.reservation, looks, context)
        found = regions_of(described)
        if len(found) < looks.num_regions:
            logger.warning("%d box(es) of an answer cannot be verified", looks.num_regions - len(found))
            return reply
        return await self.run_in_cpu_pool(partial(with_verdicts, reply, found))


def _only(results: list[RegionResult[Any]]) -> Spoken:
    """What was spoken by the one turn. Raises what the device raised, as it is answered."""
    (result,) = results
    error = result.error
    if isinstance(error, StoppedError):  # somebody does wait: then it was stopped at its deadline
        raise DeadlineExceeded("The deadline passed while the answer was being written.")
    if isinstance(error, DeviceMemoryError):
        raise UnavailableError("The device has not enough memory for this question.")
    if error is not None:
        raise error if isinstance(error, QueryError | ServiceError) else _failed(error)
    return cast("Spoken", result.output)


def _checked(reply: Reply) -> Reply:
    """Raises RegionFailedError where a number is NaN or infinite: JSON has none such, and no client expects them."""
    spans = [value for each in reply.grounding for value in (*each.box, each.probability)]
    numbers = [*spans, reply.probability, *(each.probability for each in reply.answers)]
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise _failed(OutputError("a number of an answer is NaN or infinite."))
    return reply


def _failed(error: Exception) -> RegionFailedError:
    """What is answered where the model, and nothing in the request, is to blame."""
    logger.error("a question failed", exc_info=error)
    return RegionFailedError("The model failed on this question.")

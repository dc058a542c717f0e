"""Questions in the engine: pieces of answers in one place of the queue, in turn with the work of others."""

import asyncio
import functools
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dynrefer.model import (
    Conversation,
    ConverseTurn,
    DecodedImage,
    Finish,
    ImageInfo,
    Message,
    RegionQuery,
    Reply,
    Role,
    Spoken,
)
from dynrefer.model.errors import BoxError, ConversationError, DeviceMemoryError
from dynrefer.service.context import RequestContext
from dynrefer.service.engine import conversing
from dynrefer.service.engine.conversing import ConverseInput, ConverseResult
from dynrefer.service.engine.engine import Engine
from dynrefer.service.engine.executor import Phase
from dynrefer.service.errors import DeadlineExceeded, QueueFullError, RegionFailedError, UnavailableError
from dynrefer.service.workers.image_task import DescribeInput
from tests.fake_converser import FakeConverserSpec
from tests.fakes import FakePredictor, context_of, local_engine
from tests.service.engine.test_engine import ready

IMAGE = DecodedImage(np.zeros((48, 64, 3), dtype=np.uint8), ImageInfo(64, 48))
BOX = RegionQuery(box=(1.0, 2.0, 30.0, 40.0))
WARM_UP = 1  # a piece, before the first request
PATIENCE_S = 30


def decoded(data: memoryview, on_header: object) -> DecodedImage:
    return IMAGE


def given(queries: list[RegionQuery], info: ImageInfo) -> list[RegionQuery]:
    return queries


def question(words: str, *regions: RegionQuery, max_tokens: int = 256) -> ConverseInput:
    asked = Conversation((Message(Role.USER, words),), max_tokens=max_tokens)
    ids = tuple(map(str, range(len(regions))))
    return ConverseInput(b"", decoded, functools.partial(given, list(regions)), ids, asked)


async def answered(engine: Engine, asked: ConverseInput, context: RequestContext | None = None) -> ConverseResult:
    found = [step async for step in engine.converse(asked, context or context_of())]
    assert all(isinstance(step, Spoken) for step in found[:-1]) and len(found) > 1
    result = found[-1]
    assert isinstance(result, ConverseResult)
    return result


def run(scene: Callable[[Engine], Any], predictor: FakePredictor, **settings: Any) -> Any:
    """A scene with an engine around the predictor, which is stopped afterwards."""

    async def whole() -> Any:
        engine = local_engine(lambda: predictor, **settings)
        await ready(engine)
        try:
            return await scene(engine)
        finally:
            await engine.stop(grace_s=10)

    return asyncio.run(whole())


def talkative(**more: Any) -> FakePredictor:
    return FakePredictor(conversing=FakeConverserSpec(), **more)


def test_an_answer_comes_in_pieces_each_longer_than_the_last() -> None:
    predictor = talkative()

    async def scene(engine: Engine) -> list[Any]:
        return [step async for step in engine.converse(question("one two three four"), context_of())]

    *pieces, result = run(scene, predictor)
    assert [piece.reply.content for piece in pieces] == ["1: one", "1: one two three", "1: one two three four"]
    assert [piece.done for piece in pieces] == [False, False, True]
    assert result.reply == pieces[-1].reply and result.info == ImageInfo(64, 48)
    assert predictor.conversed == [0] * WARM_UP + [0, 2, 4]


def test_a_long_answer_lets_others_in_between() -> None:
    """While one answer of a hundred pieces is written, another one and a description are complete."""
    began, done = threading.Event(), []

    def note(turn: ConverseTurn) -> None:
        if turn.written and len(turn.conversation.question) > 100:
            began.set()

    async def scene(engine: Engine) -> None:
        async def complete(name: str, work: Any) -> None:
            await work
            done.append(name)

        long = asyncio.ensure_future(complete("long", answered(engine, question("word " * 200))))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        described = DescribeInput(1, b"", decoded, functools.partial(given, [BOX]))
        await asyncio.gather(
            complete("description", engine.describe(described, context_of())),
            complete("short", answered(engine, question("a few words"))),
        )
        await long

    run(scene, talkative(converse_hook=note))
    assert set(done[:2]) == {"description", "short"} and done[2] == "long"


def test_keys_take_turns_piece_by_piece() -> None:
    """Between two pieces of one key's only answer, a key with eight has one that runs and its turn of the round."""
    order: list[str] = []
    gate = threading.Event()
    predictor = talkative()

    def note(turn: ConverseTurn) -> None:
        gate.wait(PATIENCE_S)
        time.sleep(0.01)  # longer than it takes whoever got a piece to ask for the next
        order.append(turn.conversation.question.split()[0])

    async def scene(engine: Engine) -> None:
        predictor.converse_hook = note
        asked = [("busy", "busy a b c d e f g h")] * 8 + [("quiet", "quiet a b c d e f g h")]
        works = [asyncio.ensure_future(answered(engine, question(words), context_of(key))) for key, words in asked]
        counts = engine.serving.executor.counts
        while counts.waiting + counts.running < len(asked):
            await asyncio.sleep(0.002)
            counts = engine.serving.executor.counts
        gate.set()
        await asyncio.gather(*works)

    run(scene, predictor)
    quiet = [place for place, key in enumerate(order) if key == "quiet"]
    assert len(quiet) == 5 and max(after - before for before, after in pairwise(quiet)) <= 3


def test_the_place_of_an_answer_is_one_region_however_long_it_is() -> None:
    """The queue has room for one, and for nobody else while an answer is written."""
    waiting: list[int] = []
    predictor = talkative()

    async def scene(engine: Engine) -> None:
        predictor.converse_hook = lambda turn: waiting.append(engine.serving.executor.counts.waiting)
        await answered(engine, question("word " * 20))
        assert engine.serving.executor.counts.waiting == 0

    run(scene, predictor, max_queue_regions=1, max_regions=1)
    assert len(waiting) == 11 and set(waiting) == {0}


def test_a_full_queue_refuses_before_any_work() -> None:
    gate, began = threading.Event(), threading.Event()
    predictor = talkative()

    def hold(_: object) -> None:
        began.set()
        gate.wait(PATIENCE_S)

    async def scene(engine: Engine) -> None:
        predictor.run_hook = hold
        described = DescribeInput(2, b"", decoded, functools.partial(given, [BOX, BOX]))
        first = asyncio.ensure_future(engine.describe(described, context_of()))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        one = DescribeInput(1, b"", decoded, functools.partial(given, [BOX]))
        second = asyncio.ensure_future(engine.describe(one, context_of()))
        while engine.serving.executor.counts.waiting < 2:
            await asyncio.sleep(0.002)
        with pytest.raises(QueueFullError) as raised:
            await answered(engine, question("a"))
        assert raised.value.retry_after_s >= 1
        gate.set()
        await asyncio.gather(first, second)

    run(scene, predictor, max_queue_regions=2, max_regions=2, max_batch_regions=1)
    assert predictor.conversed == [0] * WARM_UP


def test_who_stops_listening_ends_the_work() -> None:
    predictor = talkative()

    async def scene(engine: Engine) -> None:
        async with aclosing(engine.converse(question("word " * 50), context_of())) as steps:
            async for _ in steps:
                break
        assert engine.serving.executor.counts.waiting == 0
        await answered(engine, question("next"))

    run(scene, predictor)
    assert predictor.conversed == [0] * WARM_UP + [0, 0]


def test_a_cancelled_wait_ends_the_work() -> None:
    began, gate = threading.Event(), threading.Event()
    predictor = talkative()

    def hold(turn: ConverseTurn) -> None:
        if "long" in turn.conversation.question:
            began.set()
            gate.wait(PATIENCE_S)

    async def scene(engine: Engine) -> None:
        predictor.converse_hook = hold
        leaving = asyncio.ensure_future(answered(engine, question("long " * 50)))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        gate.set()
        await answered(engine, question("next"))

    run(scene, predictor)
    assert predictor.conversed == [0] * WARM_UP + [0, 0]


def test_past_the_deadline_nothing_more_is_written() -> None:
    predictor, gate = talkative(), threading.Event()

    def hang(turn: ConverseTurn) -> None:
        if turn.written:
            gate.wait(0.4)

    async def scene(engine: Engine) -> None:
        predictor.converse_hook = hang
        with pytest.raises(DeadlineExceeded):
            await answered(engine, question("word " * 50), context_of(timeout_s=0.3))

    run(scene, predictor)
    assert len(predictor.conversed) < WARM_UP + 5


def test_an_answer_that_is_under_way_is_completed_while_the_service_shuts_down() -> None:
    predictor, began = talkative(), threading.Event()

    async def scene(engine: Engine) -> ConverseResult:
        predictor.converse_hook = lambda turn: began.set()
        writing = asyncio.ensure_future(answered(engine, question("word " * 50)))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        stopping = asyncio.ensure_future(engine.stop(grace_s=PATIENCE_S))
        while engine.phase is not Phase.DRAINING:
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await answered(engine, question("another"))
        result = await writing
        await stopping
        return result

    assert run(scene, predictor).reply.tokens == 51


FAILURES: dict[str, tuple[Exception, type[Exception], str]] = {
    "the question's fault": (ConversationError("Too long.", "messages"), ConversationError, "Too long"),
    "the model's fault": (ValueError("a secret"), RegionFailedError, "The model failed on this question"),
    "no memory": (DeviceMemoryError("a secret"), UnavailableError, "not enough memory"),
}


@pytest.mark.parametrize(("raised", "answer", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failing_piece_fails_its_question_alone(raised: Exception, answer: type[Exception], words: str) -> None:
    predictor = talkative()

    def fail(turn: ConverseTurn) -> None:
        if turn.written and "bad" in turn.conversation.question:
            raise raised

    async def scene(engine: Engine) -> None:
        predictor.converse_hook = fail
        good = asyncio.ensure_future(answered(engine, question("good " * 20)))
        with pytest.raises(answer, match=words):
            await answered(engine, question("bad " * 20))
        assert (await good).reply.tokens == 21

    run(scene, predictor)


def test_without_a_converser_it_says_what_to_do() -> None:
    with pytest.raises(ConversationError, match="--converser DIR"):
        run(lambda engine: answered(engine, question("a")), FakePredictor())


def test_a_bad_region_is_named_by_its_place() -> None:
    outside = RegionQuery(box=(900.0, 900.0, 950.0, 950.0))
    with pytest.raises(BoxError) as raised:
        run(lambda engine: answered(engine, question("<region:1>", BOX, outside)), talkative())
    assert raised.value.index == 1


class Elsewhere:
    """An `Answering` of another service. replies: what it says."""

    def __init__(self, *replies: Reply, done: bool = True) -> None:
        self.spec = FakeConverserSpec()
        self.replies = replies
        self.done = done
        self.turns: list[ConverseTurn] = []
        self.waiting: list[int] = []
        self.closed = False
        self.engine: Engine | None = None

    async def pieces(
        self, turn: ConverseTurn, conversation: Conversation, context: RequestContext
    ) -> AsyncGenerator[Spoken, None]:
        assert conversation is turn.conversation and context.id and self.engine is not None
        self.turns.append(turn)
        try:
            for place, reply in enumerate(self.replies, start=1):
                self.waiting.append(self.engine.serving.executor.counts.waiting)
                yield Spoken(reply, (), self.done and place == len(self.replies), len(reply.content))
        finally:
            self.closed = True


def asked_elsewhere(elsewhere: Elsewhere, predictor: FakePredictor) -> ConverseResult:
    async def scene() -> ConverseResult:
        engine = elsewhere.engine = local_engine(lambda: predictor, upstream=elsewhere)
        await ready(engine)
        try:
            return await answered(engine, question("a dog", BOX))
        finally:
            await engine.stop(grace_s=10)

    return asyncio.run(scene())


def test_another_service_answers_in_the_place_of_the_model() -> None:
    elsewhere, predictor = Elsewhere(Reply("a"), Reply("a cat", finish=Finish.LENGTH, tokens=2)), FakePredictor()
    result = asked_elsewhere(elsewhere, predictor)
    assert result.reply.content == "a cat" and result.reply.finish is Finish.LENGTH
    assert predictor.conversed == [] and elsewhere.closed
    assert elsewhere.waiting == [0, 0]  # it takes no room of the device's queue
    (turn,) = elsewhere.turns
    assert turn.size == (64, 48) and turn.conversation.regions[0].query.box == BOX.box


def test_boxes_from_elsewhere_are_verified_too(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = FakePredictor()
    monkeypatch.setattr(conversing, "queries_to_verify", lambda reply: [BOX, BOX])
    monkeypatch.setattr(conversing, "with_verdicts", lambda reply, found: Reply(f"{len(found)} looked at"))
    assert asked_elsewhere(Elsewhere(Reply("a cat")), predictor).reply.content == "2 looked at"
    assert sorted(len(batch) for batch in predictor.batches)[-1] <= 2


@pytest.mark.parametrize(
    "elsewhere",
    [Elsewhere(), Elsewhere(Reply("a"), done=False), Elsewhere(Reply("a", probability=float("nan")))],
    ids=["nothing", "no end", "no number"],
)
def test_an_answer_that_is_none_is_a_failure(elsewhere: Elsewhere) -> None:
    with pytest.raises(RegionFailedError, match="failed on this question"):
        asked_elsewhere(elsewhere, FakePredictor())

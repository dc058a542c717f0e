"""Pieces of answers in a replica: what goes there and comes back are plain values, whichever replica had the last."""

import asyncio
import pickle
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
from ray.exceptions import ActorDiedError

from dynrefer.model import Conversation, ConverseTurn, Message, Role, Spoken
from dynrefer.service.engine.conversing import Pieces
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.scale.ray import board as boards
from dynrefer.service.scale.ray.executor import ReplicaExecutor
from dynrefer.service.scale.ray.messages import Call, ReplicaModel, Reply
from dynrefer.service.scale.ray.replica import ModelReplica
from dynrefer.service.settings import Settings
from tests.fake_converser import FakeConverserSpec, spoken
from tests.fakes import FakePredictor, context_of
from tests.service.scale.ray.test_routing import Does, Replicas, started

ASKED = Conversation((Message(Role.USER, "one two three four five"),))
AGAIN = Conversation((*ASKED.messages, Message(Role.ASSISTANT, "six"), Message(Role.USER, "seven eight nine ten")))


def replica() -> ModelReplica:
    return ModelReplica(Settings(), "embedded", make=lambda: FakePredictor(conversing=FakeConverserSpec()))


def by(given: ModelReplica) -> Does:
    """What goes to it and comes back as it does between processes."""

    async def run(call: Call, items: Any) -> Reply:
        own = replace(call, model=given._identity)
        reply: Reply = pickle.loads(pickle.dumps(await given.run(own, pickle.loads(pickle.dumps(items)))))
        return reply

    return run


def turn_about(asked: Conversation, brightness: int = 0) -> ConverseTurn:
    (turn,) = FakeConverserSpec().prepare_each(np.full((48, 64, 3), brightness, np.uint8), [asked])
    return turn


def answer(executor: ReplicaExecutor, turn: ConverseTurn) -> list[Spoken]:
    """All pieces of it, as a request has them."""

    async def request() -> list[Spoken]:
        context = context_of()
        with executor.reserve(1, context) as reservation:
            written = Pieces(FakeConverserSpec(), reservation).pieces(turn, turn.conversation, context)
            async with aclosing(written) as pieces:
                return [each async for each in pieces]

    return asyncio.run(request())


def test_pieces_and_later_turns_go_where_the_image_was_seen_before() -> None:
    replicas = Replicas("pieces", {"a": by(replica()), "b": by(replica())})
    executor = started(replicas)
    for brightness in range(4):
        replicas.seen.clear()
        for asked in (ASKED, AGAIN):
            turn = turn_about(asked, brightness)
            assert answer(executor, turn)[-1] == spoken(replace(turn, piece=100))
        assert len(replicas.seen) == 6 and len({name for name, _, _ in replicas.seen}) == 1


def test_an_answer_whose_replica_dies_is_written_on_by_another() -> None:
    one, other = by(replica()), by(replica())
    replicas = Replicas("written on", {"a": one})
    executor = started(replicas)

    def dies(call: Call, items: Any) -> Reply:
        replicas.does["b"] = other
        boards.board_of("written on").update(["b"])
        raise ActorDiedError

    async def first_piece(call: Call, items: Any) -> Any:
        replicas.does["a"] = dies
        return await one(call, items)

    replicas.does["a"] = first_piece
    turn = turn_about(ASKED)
    assert answer(executor, turn)[-1] == spoken(replace(turn, piece=100))
    assert [name for name, _, _ in replicas.seen] == ["a", "a", "b", "b"]


def test_an_answer_goes_on_in_another_replica() -> None:
    async def scene() -> list[Spoken]:
        replicas = [replica(), replica()]
        model = await replicas[0].model("")
        assert isinstance(model, ReplicaModel) and model.conversing is not None and model.card.conversation
        image = np.zeros((48, 64, 3), np.uint8)
        (turn,) = model.conversing.prepare_each(image, [ASKED])
        written: list[Spoken] = []
        while not written or not written[-1].done:
            call = Call("call", 1, WorkKind.CONVERSE, model.identity, "req_1", None, None)
            sent = pickle.loads(pickle.dumps([turn]))
            reply = await replicas[len(written) % 2].run(call, sent)
            (result,) = pickle.loads(pickle.dumps(reply)).results
            written.append(result.output)
            turn = turn.after(written[-1])
        return written

    written = asyncio.run(scene())
    assert [len(each.written) for each in written] == [2, 4, 6]
    (turn,) = FakeConverserSpec().prepare_each(np.zeros((48, 64, 3), np.uint8), [ASKED])
    assert written[0] == spoken(turn)
    assert written[-1].reply.content == "1: one two three four five"

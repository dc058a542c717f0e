"""Pieces of answers in a replica: what goes there and comes back are plain values, whichever replica had the last."""

import asyncio
import pickle
import weakref
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
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
from tests.service.scale.ray.replicas_here import WAIT_S, Does, Replicas, started, until

ASKED = Conversation((Message(Role.USER, "one two three four five"),))
AGAIN = Conversation((*ASKED.messages, Message(Role.ASSISTANT, "six"), Message(Role.USER, "seven eight nine ten")))


def replica() -> ModelReplica:
    return ModelReplica(Settings(), "embedded", make=lambda: FakePredictor(conversing=FakeConverserSpec()))


class HandedOver(list[Any]):
    """Items in an object store: weakly referenced, so that one sees when nobody holds them any more."""


@dataclass
class Store(Replicas):
    """Replicas with an object store. handed_over: all that ever was."""

    handed_over: list["weakref.ref[HandedOver]"] = field(default_factory=list)

    def hand_over(self, items: list[Any]) -> list[Any]:
        found = HandedOver(items)
        self.handed_over.append(weakref.ref(found))
        return found


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


def answer(executor: ReplicaExecutor, turn: ConverseTurn, most: int = 100) -> list[Spoken]:
    """Its pieces, as a request has them that leaves after so many."""

    async def request() -> list[Spoken]:
        context = context_of()
        with executor.reserve(1, context) as reservation:
            writing = Pieces(FakeConverserSpec(), reservation).pieces(turn, turn.conversation, context)
            async with aclosing(writing) as pieces:
                written = []
                async for each in pieces:
                    written.append(each)
                    if len(written) == most:
                        break
                return written

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


@pytest.mark.parametrize("most", [1, 100], ids=["left", "complete"])
def test_a_turn_is_handed_over_once_and_let_go_of_with_its_request(most: int, uncollected: None) -> None:
    replicas = Store(f"handed over {most}", {"a": by(replica()), "b": by(replica())})
    executor = started(replicas)
    for asked in (ASKED, AGAIN):
        assert len(answer(executor, turn_about(asked), most)) == min(3, most)
    assert len(replicas.handed_over) == 2 and len(replicas.seen) == 2 * min(3, most)
    replicas.seen.clear()
    until(lambda: not any(each() for each in replicas.handed_over))


def test_another_turn_of_the_same_request_is_handed_over_too() -> None:
    executor = started(Store("two turns", {"a": by(replica())}))
    with executor.reserve(2, context_of()) as reservation:
        for turn in (turn_about(ASKED), turn_about(AGAIN)):
            (result,) = reservation.submit([turn], WorkKind.CONVERSE).result(WAIT_S)
            assert result.output == spoken(turn)


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
            so_far = written[-1].written if written else ()
            call = Call("call", 1, WorkKind.CONVERSE, model.identity, "req_1", None, None, written=so_far)
            sent = pickle.loads(pickle.dumps([turn]))
            reply = await replicas[len(written) % 2].run(call, sent)
            (result,) = pickle.loads(pickle.dumps(reply)).results
            written.append(result.output)
        return written

    written = asyncio.run(scene())
    assert [len(each.written) for each in written] == [2, 4, 6]
    (turn,) = FakeConverserSpec().prepare_each(np.zeros((48, 64, 3), np.uint8), [ASKED])
    assert written[0] == spoken(turn)
    assert written[-1].reply.content == "1: one two three four five"

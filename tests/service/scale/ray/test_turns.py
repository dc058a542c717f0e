"""Pieces of answers in a replica: what goes there and comes back are plain values, whichever replica had the last."""

import asyncio
import pickle

import numpy as np

from dynrefer.model import Conversation, Message, Role, Spoken
from dynrefer.service.engine.reservations import WorkKind
from dynrefer.service.scale.ray.messages import Call, ReplicaModel
from dynrefer.service.scale.ray.replica import ModelReplica
from dynrefer.service.settings import Settings
from tests.fake_converser import FakeConverserSpec, spoken
from tests.fakes import FakePredictor

ASKED = Conversation((Message(Role.USER, "one two three four five"),))


def replica() -> ModelReplica:
    return ModelReplica(Settings(), "embedded", make=lambda: FakePredictor(conversing=FakeConverserSpec()))


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

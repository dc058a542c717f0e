"""What an answer costs: the stages add up, and the second turn is asked with and without what was kept."""

from __future__ import annotations

import numpy as np

from benchmarks.conversing_cost import TOKENS, measure
from dynrefer.model import DynRefer
from dynrefer.model.loading import load_model
from tests.workbench.evaluation.conversing.oracle import Oracle


class Counting(Oracle):
    """Notes what is asked, and when it is to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def forget(self) -> None:
        self.log.append("forget")

    def converse(self, turns, should_stop):  # type: ignore[no-untyped-def]  # as the base
        asked = turns[0].conversation
        self.log.append(f"{len(asked.messages)} messages, {asked.max_tokens} tokens")
        return super().converse(turns, should_stop)


def test_turns_are_asked_in_order_and_stages_add_up() -> None:
    converser = Counting()
    model = DynRefer(load_model("embedded", device="cpu", dtype="float32"), converser=converser)
    found = measure(model, converser, [np.full((64, 64, 3), 90, dtype=np.uint8)])
    second = f"3 messages, {TOKENS} tokens"
    assert converser.log == ["forget", "1 messages, 64 tokens", second, "forget", second, "forget"]
    assert list(found) == ["first turn", "second turn", "second turn, nothing kept"]
    for row in found.values():
        parts = sum(row[stage] for stage in ("prepare", "first piece", "later pieces", "verify"))
        assert abs(parts - row["all"]) < 0.5 and row["cache bytes"] == 0

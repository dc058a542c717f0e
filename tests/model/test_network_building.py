"""A network of bfloat16 is built only while no other one computes."""

import threading
from collections.abc import Callable

import pytest
import torch

from dynrefer import DynRefer
from dynrefer.model.network_building import TURNS, BuildingTurns

WAIT_S = 10.0


def begun(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_what_computes_and_what_builds_wait_for_each_other() -> None:
    turns, computes, goes_on, order = BuildingTurns(), threading.Event(), threading.Event(), list[str]()

    def compute() -> None:
        with turns.computing():
            computes.set()
            assert goes_on.wait(WAIT_S)
            with turns.computing():  # though another one waits to build by now
                order.append("computed")

    def build() -> None:
        with turns.building(torch.bfloat16):
            order.append("built")

    first = begun(compute)
    assert computes.wait(WAIT_S)
    second = begun(build)
    while not turns._building:
        threading.Event().wait(0.001)

    def later() -> None:
        with turns.computing():
            order.append("later")

    third = begun(later)
    goes_on.set()
    for each in (first, second, third):
        each.join(WAIT_S)
    assert order == ["computed", "built", "later"]


def test_a_network_of_the_default_dtype_waits_for_nobody() -> None:
    turns = BuildingTurns()
    with turns.computing(), turns.building(torch.float32):
        pass


@pytest.mark.slow
def test_a_model_of_bfloat16_is_not_built_while_another_computes() -> None:
    """Its weights are read, and it is tried, as soon as it is built."""
    with TURNS.computing():
        loading = begun(lambda: DynRefer.load("embedded", device="cpu", dtype="bfloat16"))
        while not TURNS._building:
            assert loading.is_alive()
            threading.Event().wait(0.001)
        assert torch.get_default_dtype() == torch.float32
    loading.join(WAIT_S * 6)
    assert not loading.is_alive() and TURNS._building == 0

"""The checks themselves, on a CPU: that they pass here, and that they see what is wrong."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu_check import agreement, faults, peers
from benchmarks.gpu_check.agreement import compared
from benchmarks.gpu_check.clients import Answered, Load
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.model_directory import write_model
from dynrefer.model.batch import RawOutputs
from dynrefer.model.predictor import DynRefer
from dynrefer.model.tasks.caption import GeneratedCaption
from dynrefer.model.types import Task
from dynrefer.workbench.profiling.workload import Workload

SMALL = Workload(tags=9, prompts=12, attributes=4, categories=3, tokens=3)


@pytest.fixture
def given(tmp_path: Path) -> Conditions:
    torch.set_num_threads(1)
    return Conditions("cpu", "embedded", tmp_path)


def outputs(tokens: Sequence[int], score: float, tag: float) -> RawOutputs:
    found = {task: np.array([tag, 0.0], np.float32) for task in (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES)}
    end = tokens.index(1) if 1 in tokens else len(tokens) - 1
    return RawOutputs({**found, Task.CAPTION: GeneratedCaption(tuple(tokens), score, score, end)})


def test_captions_are_compared_to_their_ends() -> None:
    expected = [outputs((0, 5, 6, 1), -1.0, 2.0), outputs((0, 5, 7, 1), -1.0, 2.0)]
    found = compared([outputs((0, 5, 6, 1, 0, 0), -1.5, 2.0), outputs((0, 5, 8, 1), -9.0, 2.0)], expected)
    assert found.captions == 0.5 and found.scores == 0.5  # a score counts where the caption is the same
    assert compared([outputs((0, 5, 6, 1), -1.0, 3.0)], expected[:1]).scores == 0.5  # of the largest, 2
    assert compared([outputs((0, 5, 6, 1), -1.0, float("nan"))], expected[:1]).scores == float("inf")


@pytest.mark.slow
def test_all_ways_agree_with_the_plain_one(given: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "REGIONS", 5)
    found = list(agreement.measure(given))
    assert len(found) == 16 and [each.name for each in found if not each.ok] == []


@pytest.mark.slow
def test_a_way_that_says_something_else_is_seen(given: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "REGIONS", 3)

    def wrong(given: Conditions, dtype: str, plain: bool) -> Any:
        loaded = right(given, dtype, plain)
        if not plain:
            with torch.no_grad():
                loaded.network.language.model.lm_head.weight.mul_(-1.0)
        return loaded

    right = agreement._random
    monkeypatch.setattr(agreement, "_random", wrong)
    first = next(iter(agreement.measure(given)))
    assert first.name == "random, float32: whole batch" and first.ok is False


@pytest.mark.slow
@pytest.mark.parametrize("batching", ["whole", "continuous"])
def test_regions_are_answered_where_memory_is_short(
    given: Conditions, monkeypatch: pytest.MonkeyPatch, batching: str
) -> None:
    monkeypatch.setattr(Conditions, "work", SMALL)
    found = asyncio.run(faults.out_of_memory(given, batching))
    assert found.ok and found.detail["answered"] == 64 and found.detail["times"] > 0
    assert found.detail["cap_after"] == faults.SIZES[batching][0] < found.detail["cap_before"] == 64


@pytest.mark.server
def test_a_client_that_is_killed_leaves_the_device_free(given: Conditions) -> None:
    found = faults.killed_client(given)
    assert found.ok and found.detail["regions_when_it_left"] > 0 and found.detail["left"] == 0


@pytest.mark.slow
def test_a_random_model_directory_can_be_loaded(given: Conditions) -> None:
    write_model(given.folder / "model", "embedded", SMALL, given.on)
    model = DynRefer.load(given.folder / "model", device="cpu")
    (found,) = model.describe(np.zeros((64, 64, 3), np.uint8), [(8, 8, 40, 40)], controls=["w1", "w2"])
    assert found.results[Task.CAPTION] is not None and len(model.card.vocabulary["tags"]) == SMALL.tags


def test_rates_leave_out_the_first_quarter_and_what_failed() -> None:
    answers = tuple(Answered(2, began, 0.5, 200) for began in (0.0, 1.0, 2.0, 3.0, 4.0))
    load = Load((*answers, Answered(1, 2.0, 0.1, 500)))
    assert load.failed == 1 and load.regions_per_s == pytest.approx(3 * 2 / 3)
    assert load.of(1).answers == (Answered(1, 2.0, 0.1, 500),) and np.isnan(load.of(1).ms(50))
    assert load.of(2).ms(99) == pytest.approx(500)
    assert Load(()).regions_per_s == 0


def test_peers_are_measured_row_by_row(given: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--models", "dynrefer-embedded", "--batches", "1", "--regions", "1", "--tokens", "2")
    monkeypatch.setattr(peers, "ON_A_CPU", options)
    found = list(peers.measure(given))
    assert found and all(each.name.startswith("dynrefer-embedded, ") and each.value > 0 for each in found)


def test_peers_that_cannot_run_are_no_result(given: Conditions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "ON_A_CPU", ("--models", "nobody"))
    with pytest.raises(SystemExit, match="ended with code 2"):
        list(peers.measure(given))


@pytest.mark.parametrize(("name", "number"), [("cuda", 2), ("cuda:1", 1)])
def test_a_limit_of_memory_names_the_gpu_by_its_number(
    name: str, number: int, given: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert faults.index_of(torch.device(name)) == number

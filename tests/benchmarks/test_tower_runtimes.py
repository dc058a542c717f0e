"""The comparison of ways to run the vision tower: in turn, ratios per round, errors against the own kernels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import tower_runtimes
from benchmarks.tower_runtimes import OWN, Tower, compare, main, own
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network


def test_every_way_runs_once_a_round_and_is_compared_with_the_own_kernels() -> None:
    calls: list[str] = []

    def tower(name: str, added: float) -> Tower:
        def run(images: Tensor) -> Tensor:
            calls.append(name)
            return images.float() + added

        return run

    views = torch.full((2, 3, 4, 4), 10, dtype=torch.uint8)
    mine, other = compare({OWN: tower(OWN, 0.0), "other": tower("other", 1.0)}, views, rounds=3)
    assert [set(calls[place : place + 2]) for place in range(0, 8, 2)] == [{OWN, "other"}] * 4  # the first warms up
    assert (mine["views"], mine["way"], mine["ratio"], mine["error"]) == (2, OWN, 1.0, 0.0)
    assert len(other["ratios"]) == 3 and other["error"] == 0.1


def test_the_own_way_in_bfloat16_leaves_the_given_network_as_it_is() -> None:
    network = random_network(random_config("embedded", Workload()), torch.device("cpu"), torch.float32)
    side = network.config.view_size
    images = torch.randint(0, 256, (2, 3, side, side), generator=torch.Generator().manual_seed(0)).byte()
    with torch.inference_mode():
        found = own(network, torch.bfloat16)(images)
        expected = own(network, torch.float32)(images)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert {each.dtype for each in network.vision.parameters()} == {torch.float32}


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tower_runtimes, "PACKAGES", ("torch", "no_such_runtime"))
    with pytest.raises(SystemExit):
        main([])
    assert "pip install no_such_runtime" in capsys.readouterr().err

"""Training of the small segmenter: a step changes the weights, a stopped run goes on, and the weights are exported."""

import argparse
from pathlib import Path

import pytest
import torch

from dynrefer.model.networks.segmenter.small import load_head
from dynrefer.workbench.training.segmenter.export import export
from dynrefer.workbench.training.segmenter.train import train

pytestmark = pytest.mark.training


def options(out: Path, steps: int) -> argparse.Namespace:
    return argparse.Namespace(
        out=out, steps=steps, batch=3, side=32, scenes=2, rate=1e-3, seed=0, threads=torch.get_num_threads()
    )


def test_a_run_goes_on_and_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(options(tmp_path / "run", steps=1))
    train(options(tmp_path / "run", steps=2))
    assert '"step": 2' in capsys.readouterr().out
    file = export(tmp_path / "run", tmp_path / "weights")
    assert file.stat().st_size < 1_500_000
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    head = load_head(tmp_path / "weights")
    torch.testing.assert_close(head.mask.weight, state["network"]["mask.weight"], rtol=1e-3, atol=1e-4)

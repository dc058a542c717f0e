"""`dynrefer bench peers`: every model is small here; no test depends on measured seconds."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dynrefer.workbench.profiling.command import bench
from dynrefer.workbench.profiling.peers.measure import ModelPlan, measure
from dynrefer.workbench.profiling.peers.models import BOXES, EACH, ONCE, build, parameters_of, scene
from dynrefer.workbench.profiling.peers.published import MODELS
from dynrefer.workbench.profiling.peers.report import PeersError, measure_peers, peers_table

CPU = torch.device("cpu")


def _plan(name: str) -> ModelPlan:
    return ModelPlan(name, 2, (1, 2), 1, 4, "auto", "cpu", 1, 60.0, tiny=True)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_answers_every_region_with_as_many_tokens(name: str) -> None:
    rows = list(measure(_plan(name)))
    assert json.loads(json.dumps(rows)) == rows and {row["batch"] for row in rows} == {1, 2}
    assert all(row["tokens"] == 4 and row["regions_per_s"] > 0 and row["peak_memory_gb"] > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_the_published_ones(name: str) -> None:
    assert parameters_of(MODELS[name]) / 1e9 == pytest.approx(MODELS[name].billions, rel=0.02)


def test_one_encoding_of_the_image_serves_all_regions() -> None:
    model = build(MODELS["florence-2-base"], tokens=4, tiny=True, device=CPU, dtype=torch.float32)
    assert model.captions(scene(), BOXES[:3], ONCE) == model.captions(scene(), BOXES[:3], EACH)


def test_a_model_that_fails_leaves_the_rows_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "missing", MODELS["blip-2"])  # the child does not know it
    out = tmp_path / "peers.json"
    with pytest.raises(PeersError, match="missing could not be measured"):
        measure_peers([_plan("dynrefer-embedded"), _plan("missing")], out, append=False, log=lambda line: None)
    kept = json.loads(out.read_text())
    assert {row["model"] for row in kept["rows"]} == {"dynrefer-embedded"}
    report = measure_peers([_plan("florence-2-base")], out, append=True, log=lambda line: None)
    assert {row["model"] for row in report["rows"]} == {"dynrefer-embedded", "florence-2-base"}
    assert report["ratios"][0]["peer"] == "florence-2-base" and "Florence-2 base" in peers_table(report)


def test_a_wrong_name_is_refused() -> None:
    done = CliRunner().invoke(bench, ["peers", "--models", "florence-3"])
    assert done.exit_code == 2

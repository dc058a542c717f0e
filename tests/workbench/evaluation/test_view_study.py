"""The view study with an oracle that needs certain views: its curves show which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.types import Task
from dynrefer.workbench.data.labelled_files import read_labelled
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.data import labelled_for
from dynrefer.workbench.evaluation.metrics.curves import Curves, precision_recall, reliability
from dynrefer.workbench.evaluation.report.files import prepare_folder, write_result, write_study
from dynrefer.workbench.evaluation.view_study import ONE_VIEW, LabelledSubject, SceneSubject, study_views
from dynrefer.workbench.scenes.world import World
from tests.workbench.evaluation.drawn_data import coco_file, draw_regions
from tests.workbench.evaluation.oracle import Oracle


def _needs_context(obj: object, task: Task, views: tuple[float, ...]) -> bool:
    """Captions need a wide view, categories none that is wide, the rest nothing."""
    if task is Task.CAPTION:
        return max(views) >= 0.4
    return task is not Task.CATEGORIES or max(views) <= 0.5


@pytest.mark.slow
def test_quality_over_t_and_policies(world: World, oracle: Oracle, tmp_path: Path) -> None:
    oracle.knows = _needs_context
    study = study_views(oracle, SceneSubject(draw_regions(world), 0.5), batch_regions=16, readers=2)
    assert list(study.over_t) == pytest.approx([step / 10 for step in range(11)])
    assert [study.over_t[t]["relation"].value for t in (0.0, 0.3, 0.4, 1.0)] == [0.0, 0.0, 1.0, 1.0]
    assert [study.over_t[t]["class"].value for t in (0.0, 0.5, 0.6)] == [1.0, 1.0, 0.0]
    assert study.policies[ONE_VIEW][1]["class"].value == 1.0
    assert {policy: list(counts) for policy, counts in study.policies.items() if policy != ONE_VIEW} == dict.fromkeys(
        ("fixed", "random", "image prior", "task prior"), [2, 3, 4]
    )
    # The oracle's priors: captions 0, .4, .5; categories 0, .1, .5. Fixed ones reach t = 1.
    assert study.policies["task prior"][3]["class"].value == study.policies["task prior"][2]["relation"].value == 1.0
    assert study.policies["fixed"][2]["class"].value == 0.0 and study.policies["fixed"][2]["relation"].value == 1.0
    assert study.policies["task prior"][3].keys() == study.over_t[0.0].keys()
    stored = {**study.to_json(), "model": "oracle"}
    paths = write_study(prepare_folder(tmp_path / "new"), "views", stored, study)
    assert json.loads(paths[0].read_text())["over_t"]["0.4"]["relation"]["value"] == 1.0
    assert "| task prior, 4 views |" in paths[1].read_text() and "| 0, 0.4 |" in paths[1].read_text()
    for path in paths[2:]:
        with Image.open(path) as image:
            assert image.width > 600


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "task", "metric"),
    [
        (Benchmark.CAPTIONS, Task.CAPTION, "cider"),
        (Benchmark.ATTRIBUTES, Task.ATTRIBUTES, "attribute_map"),
        (Benchmark.RECOGNITION, Task.CATEGORIES, "class"),
    ],
)
def test_labelled_data(
    world: World, oracle: Oracle, tmp_path: Path, benchmark: Benchmark, task: Task, metric: str
) -> None:
    oracle.knows = _needs_context
    data = labelled_for(benchmark, read_labelled(coco_file(draw_regions(world, 20), tmp_path)))
    study = study_views(oracle, LabelledSubject(benchmark, data, (task,)), batch_regions=16, readers=2, most_views=3)
    assert {name for metrics in study.over_t.values() for name in metrics} == {metric}
    near, far = study.over_t[0.0][metric].value, study.over_t[1.0][metric].value
    assert near is not None and far is not None
    assert (near < far) if task is Task.CAPTION else (near == 1.0 and far == (0.0 if metric == "class" else 1.0))
    assert study.joined(study).to_json() == study.to_json()


def test_a_report_draws_the_curves_that_there_are(tmp_path: Path) -> None:
    predicted, correct = np.array([0.1, 0.9, 0.8, 0.3]), np.array([False, True, True, True])
    curves = Curves({"all": precision_recall(predicted, correct)}, {"all": reliability(predicted, correct)})
    result = {"map": 0.5, "standard_errors": {"map": None}, "regions": 4}
    paths = write_result(tmp_path, "x", result, curves)
    assert [path.name for path in paths] == ["x.json", "x.md", "x_precision_recall.png", "x_calibration.png"]
    assert "| map | 0.5000 |  |" in paths[1].read_text() and "x_calibration.png" in paths[1].read_text()
    assert json.loads(paths[0].read_text())["curves"]["reliability"]["all"]["count"] == [1, 1, 1, 1]
    assert len(write_result(tmp_path, "y", result, Curves())) == 2
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write into --out"):
        prepare_folder(tmp_path / "file")


def test_reliability_by_hand() -> None:
    # One bin holds .1 and .1, half right; one .9 and .9, all right: gaps .4 and .1, equally heavy.
    bins = reliability(np.array([0.1, 0.1, 0.9, 0.9]), np.array([True, False, True, True]))
    assert bins.predicted == pytest.approx([0.1, 0.9]) and bins.observed.tolist() == [0.5, 1.0]
    assert bins.error == pytest.approx(0.25) and bins.count.tolist() == [2, 2]

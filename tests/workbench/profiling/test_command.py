"""What `dynrefer bench` counts and reports; no test depends on measured seconds."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.errors import ModelError
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.types import ALL_TASKS
from dynrefer.workbench.profiling.batch_invariance import measure_batch_invariance
from dynrefer.workbench.profiling.cache_savings import measure_repeats
from dynrefer.workbench.profiling.command import bench
from dynrefer.workbench.profiling.machine import _command
from dynrefer.workbench.profiling.model_speed import ONEDNN, Plan, measure_model, model_table
from dynrefer.workbench.profiling.operation_counts import Ceilings, Cost, count_costs, roofline_seconds
from dynrefer.workbench.profiling.startup import measure_start
from dynrefer.workbench.profiling.workload import Workload, random_config, random_inputs, random_model
from tests.model.reference_batch import reference_batch
from tests.repository import ROOT

CPU = torch.device("cpu")
SMALL = Workload(tags=9, prompts=12, attributes=4, categories=3, tokens=3, beams=2)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    torch.set_num_threads(1)
    plan = Plan("embedded", (1, 2), ("float32", "bfloat16"), ("all", "tags"), CPU, 1, SMALL)
    lines: list[str] = []
    found = measure_model(plan, reference_batch, lines.append)
    assert len(lines) == 8
    return found


@pytest.mark.slow
def test_the_report_says_what_was_measured(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report
    assert set(report["gemm_gflops"]) == {"float32", "bfloat16", ONEDNN} and report["copy_gb_s"] > 0
    assert {"command", "commit", "processor", "threads", "torch", "date"} <= set(report)
    keys = [(row["dtype"], row["regions"], row["tasks"]) for row in report["rows"]]
    assert keys == [(d, r, t) for d in ("float32", "bfloat16") for r in (1, 2) for t in ("all", "tags")]
    for row in report["rows"]:
        assert row["preset"] == "embedded" and row["beams"] == 2 and row["texts"] == [9, 12, 3]
        assert row["views_encoded"] == 3 * row["regions"]
        assert row["tokens"] == (3 if row["tasks"] == "all" else None)
        assert row["seconds"] > 0 and row["floor_seconds"] > 0 and row["speedup"] > 0
        assert row["efficiency"] == pytest.approx(row["floor_seconds"] / row["seconds"], rel=0.2, abs=2e-3)
        assert set(row["gemm_gflops"]) == {"float32", "bfloat16", ONEDNN}
        assert row["efficiency_onednn"] <= row["efficiency"]
        assert sum(row["floor_stages"].values()) == pytest.approx(row["floor_seconds"], abs=1e-3)
    assert set(report["rows"][1]["floor_stages"]) == {"encode", "represent", "tags"}


def test_a_report_where_there_is_no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: there is one rate per dtype, and no efficiency by oneDNN's."""
    monkeypatch.setattr("dynrefer.workbench.profiling.model_speed.onednn_gflops", lambda *_, **__: 0.0)
    plan = Plan("embedded", (1,), ("float32",), ("tags",), CPU, 1, SMALL)
    report = measure_model(plan, None, lambda line: None)
    assert set(report["gemm_gflops"]) == {"float32"} and "efficiency_onednn" not in report["rows"][0]
    assert report["commit"] in model_table(report)


def test_rows_are_kept_as_they_are_measured() -> None:
    kept: list[dict[str, Any]] = []
    plan = Plan("embedded", (1, 2), ("float32",), ("tags",), CPU, 1, SMALL)
    found = measure_model(plan, None, lambda line: None, lambda report: kept.append(json.loads(json.dumps(report))))
    assert [len(each["rows"]) for each in kept] == [1, 2, 2]
    assert [each["complete"] for each in kept] == [False, False, True] and kept[-1] == found
    assert "gemm_gflops" in kept[0] and "Incomplete" in model_table(kept[0]) and "Incomplete" not in model_table(found)


@pytest.mark.parametrize("onednn", [False, True])
def test_an_interrupted_command_keeps_and_shows_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onednn: bool
) -> None:
    if not onednn:
        monkeypatch.setattr("dynrefer.workbench.profiling.model_speed.onednn_gflops", lambda *_, **__: 0.0)
    monkeypatch.setattr("dynrefer.workbench.profiling.workload.Workload", lambda **_: SMALL)
    batches = iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(batches) == 3:  # two batches a row: in the second row
            raise KeyboardInterrupt
        return run_batch(*arguments)

    monkeypatch.setattr("dynrefer.workbench.profiling.model_speed.run_batch", interrupted)
    out = tmp_path / "model.json"
    out.write_text("{}", encoding="utf-8")
    arguments = ["model", "--preset", "embedded", "--regions", "1,2", "--tasks", "tags", "--repeats", "1"]
    done = CliRunner().invoke(bench, [*arguments, "--out", str(out), "--overwrite"])
    assert done.exit_code != 0 and "Incomplete" in done.stdout and "| float32 | 1 | tags |" in done.stdout
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert not kept["complete"] and [row["regions"] for row in kept["rows"]] == [1]
    assert set(kept["gemm_gflops"]) == ({"float32", ONEDNN} if onednn else {"float32"})


@pytest.mark.slow
def test_the_table_has_a_line_per_row_and_names_the_largest_gaps(report: dict[str, Any]) -> None:
    lines = model_table(report).splitlines()
    assert report["commit"] in lines[0] and len(lines) == 5 + 2 * len(report["rows"])
    row = {**report["rows"][0], "stages": {"encode": 3.0, "tags": 2.0, "caption": 9.0}}
    row["floor_stages"] = {"encode": 2.5, "tags": 1.0, "caption": 1.0}
    assert "largest gaps caption 9.000 s over 1.000 s, tags 2.000 s over 1.000 s" in model_table(
        report | {"rows": [row]}
    )


def test_the_random_model_agrees_with_the_reference_path() -> None:
    """The same network and regions that are timed; captions of exactly the requested tokens."""
    loaded = random_model(random_config("embedded", SMALL), SMALL, CPU, torch.float32)
    passes = random_inputs(loaded.network.config, 3, ALL_TASKS)
    found, expected = run_batch(loaded, passes, FeatureCache(0)).outputs, reference_batch(loaded, passes)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["caption"].tokens == theirs["caption"].tokens and ours["caption"].length == 3
        for task in ("tags", "attributes", "categories"):
            assert torch.allclose(torch.tensor(ours[task]), torch.tensor(theirs[task]), atol=1e-5)


def test_a_second_task_on_a_region_needs_no_vision() -> None:
    report, table = measure_repeats("embedded", CPU, 2)
    assert [row["task"] for row in report["rows"]] == ["categories", "attributes"]
    assert all(row["ratio"] > 1 for row in report["rows"]) and "ratio" in table


@pytest.mark.slow
def test_vision_of_the_full_model_is_counted_as_by_hand() -> None:
    """39 blocks of width 1408 on 257 tokens, two operations per multiplication and addition."""
    config = preset("flan-t5-xl").vision_config
    width, inner, tokens = config.hidden_size, config.intermediate_size, 257
    block = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width
    patches = 2 * 256 * 3 * 14**2 * width
    counted = count_costs("flan-t5-xl", SMALL, 1, torch.bfloat16)["encode"]
    assert counted.operations == pytest.approx(3 * (39 * block + patches), rel=1e-6)
    assert counted.operations == pytest.approx(1.56e12, rel=0.01)


@pytest.mark.slow
def test_texts_cost_in_proportion_and_regions_too() -> None:
    one = count_costs("embedded", SMALL, 1, torch.float32)
    two = count_costs("embedded", SMALL, 2, torch.float32)
    for part, cost in one.items():
        assert two[part].operations == pytest.approx(2 * cost.operations, rel=1e-6), part
        assert cost.bytes < two[part].bytes < 2 * cost.bytes, part  # the weights are read once
    half = count_costs("embedded", SMALL, 1, torch.bfloat16)
    assert half["encode"].operations == one["encode"].operations and half["encode"].bytes < one["encode"].bytes


def test_the_roofline_bound_is_the_slower_of_products_and_bytes() -> None:
    ceilings = Ceilings(product=100.0, product_float32=10.0, copy=5.0)
    assert roofline_seconds("tags", Cost(1000.0, 1.0), ceilings) == 10.0
    assert roofline_seconds("tags", Cost(1.0, 1000.0), ceilings) == 200.0
    assert roofline_seconds("qformer", Cost(1000.0, 1.0), ceilings) == 100.0  # float32 whatever the rest is


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--regions", "0"), "--regions '0' must be whole numbers"),
        (("--regions", "8,x"), "--regions '8,x' must be whole numbers"),
        (("--dtype", "float16"), "--dtype 'float16' is not one of float32, bfloat16"),
        (("--preset", "large"), "--preset 'large' is not one of flan-t5-xl"),
        (("--tasks", "all,verbs"), "--tasks 'verbs' is not one of all, caption"),
        (("--out", "README.md"), "README.md exists; pass --overwrite to replace it"),
    ],
)
def test_usage_errors_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    command = [sys.executable, "-m", "dynrefer.service.cli", "bench", "model", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_every_workload_has_enough_control_words() -> None:
    loaded = random_model(random_config("embedded", SMALL), SMALL, CPU, torch.float32)
    (one,) = random_inputs(loaded.network.config, 1, ALL_TASKS)
    limit = loaded.network.config.max_control_tokens
    ids = loaded.language_tokenizer([",".join(one.controls)], truncation=True, max_length=limit).input_ids[0]
    assert len(ids) == limit and math.prod(ids) > 0


@pytest.mark.slow
def test_other_regions_in_the_batch_change_no_number_by_more_than_rounding() -> None:
    found, table = measure_batch_invariance(6)
    assert [row["batch"] for row in found["rows"]] == [2, 3, 5, 8, 16, 32]
    assert all(row["regions"] >= 6 and row["largest_difference"] < 1e-4 for row in found["rows"])
    assert len(table.splitlines()) == 4 + len(found["rows"])


def test_the_command_answers_to_its_first_name_too() -> None:
    names = {command.name: command for command in bench.registered_commands}
    new, old = names["batch-invariance"], names["company"]
    assert old.hidden and not new.hidden and old.callback is new.callback
    runner = CliRunner()
    assert "--regions" in runner.invoke(bench, ["company", "--help"]).stdout
    assert "company" not in runner.invoke(bench, ["--help"]).stdout


@pytest.mark.server
def test_a_start_is_measured_from_the_process_to_readiness() -> None:
    report, table = measure_start("embedded", 1)
    assert report["ready_seconds"] > report["reading_weights_seconds"] > 0
    assert set(report["steps"]) == {"import torch", "import model", "load", "first region"}
    assert "start to ready" in table


@pytest.mark.server
def test_a_service_that_does_not_start_is_not_measured() -> None:
    with pytest.raises(ModelError, match="code 2.*there is no model directory '/nowhere'"):
        measure_start("/nowhere", 1)


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("/somewhere/python -m benchmarks.quick views", "python -m benchmarks.quick views"),
        (f"/somewhere/python /bin/dynrefer bench start --out {ROOT}/here.json", "dynrefer bench start --out here.json"),
        (
            "/somewhere/python -X importtime -u /bin/dynrefer bench model --model /home/me/mine",
            "dynrefer bench model --model mine",
        ),
        ("python .venv/bin/dynrefer bench start", "dynrefer bench start"),
        ("/somewhere/python -c pass", "python -c"),
        ("/somewhere/python", ""),
    ],
)
def test_a_report_names_its_command_without_the_folders_of_a_machine(typed: str, named: str) -> None:
    assert _command(typed.split()) == named

"""The files that the simulation reads, the command, and the committed results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.scaling import costs, reality
from benchmarks.scaling.__main__ import RESULT, main, ways_table
from benchmarks.scaling.costs import MissingFigures, gpu, gpu_files, load
from benchmarks.scaling.pictures import draw_routers, draw_ways
from benchmarks.scaling.replicas import Curve
from benchmarks.scaling.traffic import WEB, ImageSize, Mix


def card(folder: Path, figures: list[dict[str, Any]]) -> None:
    (folder / "gpu-nvidia-test.json").write_text(json.dumps({"device": "Test", "figures": figures}), encoding="utf-8")


def figure(part: str, name: str, value: float, **detail: object) -> dict[str, Any]:
    return {"part": part, "name": name, "value": value, "detail": detail}


def test_a_curve_is_straight_between_its_points_and_goes_on_as_it_must() -> None:
    rate, time = Curve.of({2: 10.0, 4: 30.0}), Curve.of({1: 1.0, 4: 2.5}, proportional=True)
    assert [rate(n) for n in (1, 2, 3, 4, 8)] == [5.0, 10.0, 20.0, 30.0, 30.0]
    assert [time(n) for n in (1, 2, 4, 8)] == [1.0, 1.5, 2.5, 5.0]
    assert rate.table(8)(3) == 20.0 and rate.table(4)(99) == 30.0
    with pytest.raises(ValueError, match="at least one"):
        Curve.of({})


def test_a_card_s_rates_are_those_of_regions_in_flight_where_they_were_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "RESULTS", tmp_path)
    whole = [figure("speed", f"{n} regions, all", 10.0 * n) for n in (8, 32)] + [figure("speed", "1 region, all", 12.0)]
    card(tmp_path, [*whole, figure("speed", "8 regions, tags", 99.0), figure("speed", "1 region, all, time", 80.0)])
    assert gpu("test").rate == Curve.of({1: 12.0, 8: 80.0, 32: 320.0}) and "whole" in costs.gpu_source("test")
    assert gpu("test", "tags").rate == Curve.of({8: 99.0})
    flight = [figure("curve", f"continuous, {n} in flight, all", 9.0 * n, in_flight=n, tasks="all") for n in (1, 64)]
    card(tmp_path, [*whole, *flight])
    assert gpu("test").rate == Curve.of({1: 9.0, 64: 576.0}) and "in flight" in costs.gpu_source("test")
    assert gpu("test").regions_per_s == 576.0
    with pytest.raises(MissingFigures, match="'tags'"):
        gpu("test", "tags")
    with pytest.raises(MissingFigures, match=r"no card 'b200'.*test"):
        gpu("b200")


def test_costs_that_were_not_measured_are_named(tmp_path: Path) -> None:
    device = gpu(next(iter(gpu_files())))
    with pytest.raises(MissingFigures, match=r"none\.json is missing.*benchmarks\.scaling\.measuring"):
        load(device, path=tmp_path / "none.json")
    with pytest.raises(MissingFigures, match=r"\[7\.0\] megapixels"):
        load(device, Mix((ImageSize(7.0, 1.0),), 4.0))


def test_the_measured_costs_are_read() -> None:
    found = load(gpu(next(iter(gpu_files()))))
    assert found.view_bytes == 3 * 3 * 224 * 224 and 0 < found.image_s < 1 and 0 < found.loop_s(1) < found.loop_s(1_000)
    assert [image.megapixels for image in found.images] == [size.megapixels for size in WEB.sizes]


def measured(regions_per_s: float, p50_ms: float) -> dict[str, Any]:
    """Two replicas of a device that takes .1 s a region whatever the batch, and nothing else takes any time."""
    return {
        "cores": 8,
        "batch_s": {"1": 0.1, "16": 1.6},
        "prepare_core_s": {"1": 0.0},
        "edge_core_s": {"1": 0.0},
        "runs": [{"replicas": 2, "clients": 4, "regions": 1, "regions_per_s": regions_per_s, "p50_ms": p50_ms}],
    }


def test_predictions_are_judged_by_fifteen_percent(tmp_path: Path) -> None:
    path = tmp_path / "scale_out.json"
    assert reality.two_replicas(path) == []
    path.write_text(json.dumps({"rows": []}), encoding="utf-8")
    assert reality.two_replicas(path) == []
    path.write_text(json.dumps({"simulation": measured(20.0, 200.0)}), encoding="utf-8")
    throughput, p50 = reality.two_replicas(path)
    assert throughput.predicted == pytest.approx(20, rel=0.02) and throughput.ok and p50.ok
    path.write_text(json.dumps({"simulation": measured(10.0, 200.0)}), encoding="utf-8")
    assert [each.ok for each in reality.two_replicas(path)] == [False, True]
    assert "**no**" in reality.table(reality.two_replicas(path))


@pytest.mark.slow
def test_the_command_answers_how_many_gpus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scaling.sizing.LEAST_REQUESTS", 1_500)
    main(["--regions-per-second", "5000", "--gpu", next(iter(gpu_files()))])
    said = capsys.readouterr().out
    assert "GPUs" in said and "Gbit/s" in said and "per million regions" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--regions-per-second", "0"], "--regions-per-second must be a positive number"),
        (["--regions-per-second", "5", "--gpu", "b9"], "no card 'b9' was measured"),
        (["--regions-per-second", "5", "--regions-per-request", "0"], "regions per request must be from 1 to 64"),
        (["--regions-per-second", "5", "--gpu-price", "nan"], "--gpu-price must be a number from 0 up"),
        (["--edge-cores", "2"], "--edge-cores must be at least 3"),
    ],
)
def test_wrong_arguments_get_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert sentence in capsys.readouterr().err


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return found


def test_the_committed_results_cover_what_the_page_says() -> None:
    found = committed()
    assert {row["gpus"] for row in found["ways"]} == {1, 2, 10, 100, 1_000}
    assert all(row["first"] or row["why_not"] for row in found["ways"])
    assert all(row["p99_ms"] is None or row["p99_ms"] <= found["p99_ms"] for row in found["ways"])


def test_the_committed_measurement_of_two_replicas_is_predicted() -> None:
    judged = [each for each in reality.two_replicas() if each.judged]
    assert judged and all(each.ok for each in judged), reality.table(judged)


@pytest.mark.slow
def test_pictures_are_drawn_of_rows_with_gaps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = committed()
    draw_ways(found["ways"], tmp_path / "ways.png", 1000.0, "Test")
    draw_routers(found["routers"], tmp_path / "routers.png", "routers")
    assert all(0 < (tmp_path / name).stat().st_size < 150_000 for name in ("ways.png", "routers.png"))
    assert "cannot be" in ways_table([{"gpus": 9, "way": "one edge", "why_not": "so"}])

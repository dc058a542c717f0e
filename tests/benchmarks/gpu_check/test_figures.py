"""The file of figures, which is whole at any time, and what is derived and judged."""

import json
from pathlib import Path

import pytest

from benchmarks.gpu_check.figures import Figure, Report, Target, rate_name

MACHINE = {"device": "NVIDIA H100", "commit": "abc"}


def test_the_file_is_written_with_every_figure(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    report = Report(out, MACHINE, "flan-t5-xl", judged=True)
    report.add(Figure("service", "32 x 1, all", 90.0, "regions/s", ok=True))
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["device"] == "NVIDIA H100" and not found["complete"]
    assert found["figures"] == [
        {
            "part": "service",
            "name": "32 x 1, all",
            "value": 90.0,
            "unit": "regions/s",
            "ok": True,
            "target": ">= 100",
            "met": False,
        }
    ]
    report.end_early("faults", "cut after 60 s")
    report.complete()
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["complete"] and found["not_finished"] == {"faults": "cut after 60 s"}
    assert "| service | 32 x 1, all | 90 regions/s | >= 100 | missed |" in report.table()
    assert "faults: cut after 60 s." in report.table()
    assert report.passed  # a missed target and a part that was cut are no failures


@pytest.mark.parametrize("judged", [True, False])
def test_ratios_follow_from_figures_of_several_parts(tmp_path: Path, judged: bool) -> None:
    report = Report(tmp_path / "gpu.json", MACHINE, "medium", judged)
    for part, name, value in (
        ("speed", rate_name(64, "all"), 200.0),
        ("speed", "plain way, 32 regions, all", 40.0),
        ("service", "16 x 8, all", 190.0),
    ):
        report.add(Figure(part, name, value, "regions/s"))
    values = {each.name: each.value for each in report.figures}
    assert values["64 regions, all, over the plain way at 32"] == 5.0
    assert values["16 x 8, all, over offline"] == pytest.approx(0.95)
    assert ("| >= 0.9 | ok |" in report.table()) == judged


def test_a_failed_check_and_a_broken_part_fail(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", MACHINE, "medium", judged=False)
    report.add(Figure("agreement", "random", "90% of captions equal", ok=False))
    assert not report.passed and "FAILED" in report.table()
    other = Report(tmp_path / "gpu.json", MACHINE, "medium", judged=False)
    other.end_early("speed", "ended with code 1")
    assert not other.passed


def test_targets_have_a_direction() -> None:
    assert Target(70, at_most=True).met(69) and not Target(70, at_most=True).met(71)
    assert Target(180).met(180) and not Target(180).met(179)
    assert (str(Target(0.9)), str(Target(10, at_most=True))) == (">= 0.9", "<= 10")

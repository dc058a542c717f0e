"""Parts in processes of their own: their figures arrive as they come, whatever ends them."""

import sys
from pathlib import Path

import pytest

from benchmarks.gpu_check import __main__, parts
from benchmarks.gpu_check.__main__ import check, main, result_file
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure, Report
from benchmarks.gpu_check.parts import Ended, run_part
from tests.repository import ROOT

# A part that prints what no figure is, yields two, and then does as its preset says.
PART = """
import os, time
from benchmarks.gpu_check.figures import Figure

def measure(given):
    print("noise of a library")
    yield Figure("made", "first", 1.0)
    yield Figure("made", "second", 2.0)
    if given.preset == "medium":
        time.sleep(60)
    if given.preset == "embedded":
        os.abort()
"""
START = """
import sys
from benchmarks.gpu_check import parts
sys.path.insert(0, {folder!r})
sys.modules["benchmarks.gpu_check.made"] = __import__("made")
parts.BUDGETS["made"] = 1.0
parts.main(sys.argv[1:])
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A part of that name."""
    (tmp_path / "made.py").write_text(PART, encoding="utf-8")
    starter = tmp_path / "python"
    (tmp_path / "start.py").write_text(START.format(folder=str(tmp_path)), encoding="utf-8")
    starter.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {tmp_path / "start.py"} "$@"\n', encoding="utf-8")
    starter.chmod(0o755)
    monkeypatch.setattr(parts.sys, "executable", str(starter))
    monkeypatch.setitem(parts.BUDGETS, "made", 20.0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return "made"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "seconds", "why"),
    [
        ("flan-t5-xl", 60.0, ""),
        ("medium", 20.0, "cut after 20 s"),  # far more than a start takes
        ("embedded", 60.0, "ended with code -6"),
    ],
)
def test_figures_survive_how_a_part_ends(made: str, tmp_path: Path, preset: str, seconds: float, why: str) -> None:
    found = list(run_part(made, ("cpu", preset, str(tmp_path)), seconds))
    assert found == [Figure("made", "first", 1.0), Figure("made", "second", 2.0), Ended(why)]


@pytest.mark.slow
def test_the_others_have_their_turn_after_a_part_that_breaks(made: str, tmp_path: Path) -> None:
    report = Report(tmp_path / "out.json", {}, "embedded", judged=False)
    check(report, Conditions("cpu", "embedded", tmp_path), [made, made], 60.0)
    assert len(report.figures) == 4 and report.cut == {made: "ended with code -6"} and not report.passed


def test_what_has_no_time_left_is_named(tmp_path: Path) -> None:
    report = Report(tmp_path / "out.json", {}, "embedded", judged=False)
    check(report, Conditions("cpu", "embedded", tmp_path), ["speed"], 0.5)
    assert report.cut == {"speed": "cut: no time was left for it"} and report.passed


def test_the_file_is_named_after_the_card(tmp_path: Path) -> None:
    name = result_file("NVIDIA H100 80GB HBM3", tmp_path)
    assert name == ROOT / "benchmarks/results/gpu-nvidia-h100-80gb-hbm3.json"
    assert result_file("cpu", tmp_path) == tmp_path / "cpu.json"


@pytest.mark.slow
def test_the_command_runs_a_part_and_says_whether_it_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "BUDGETS", {"peers": 60.0})
    monkeypatch.setattr(
        __main__, "run_part", lambda *_: iter((Figure("peers", "ours", 3.0, "regions/s", ok=True), Ended()))
    )
    arguments = ["--device", "cpu", "--preset", "embedded", "--only", "peers", "--out", str(tmp_path / "x.json")]
    assert main(arguments) == 0
    assert "| peers | ours | 3 regions/s |" in capsys.readouterr().out and (tmp_path / "x.json").exists()

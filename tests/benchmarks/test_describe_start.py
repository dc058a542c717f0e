"""The comparison of two programs' `describe`: in turn, ratios per round, answers compared without their times."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.describe_start import Program, compare, main

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys, time
assert sys.argv[1] == "describe" and "--json" in sys.argv
with open("calls", "a") as calls:
    calls.write(NAME)
time.sleep(PAUSE)
print(json.dumps({"regions": [{"caption": CAPTION, "timings_ms": {"vision": time.perf_counter()}}]}))
"""


def _program(folder: Path, name: str, caption: str, pause: float) -> Program:
    values = {"NAME": repr(name), "CAPTION": repr(caption), "PAUSE": str(pause)}
    text = PROGRAM
    for key, value in values.items():
        text = text.replace(key, value)
    (folder / f"{name}.py").write_text(text)
    return Program((sys.executable, f"{name}.py"), folder)


def test_two_programs_are_compared_in_turn(tmp_path: Path) -> None:
    one, other = _program(tmp_path, "a", "a dog", 0.0), _program(tmp_path, "b", "a dog", 0.5)
    report = compare(one, other, tmp_path / "x.png", "0,0,9,9", rounds=2)
    assert (tmp_path / "calls").read_text() == "ba" + "ab" + "ba"  # the first round warms up
    assert report["same_answer"] and report["rounds"] == len(report["ratios"]) == 2
    assert report["ratio"] < 1 and report["against_seconds"] > 0.5
    assert {"command", "commit", "processor", "torch", "against_commit"} <= set(report)
    assert str(tmp_path) not in json.dumps(report)


def test_other_answers_are_noticed(tmp_path: Path) -> None:
    one, other = _program(tmp_path, "a", "a dog", 0.0), _program(tmp_path, "b", "a cat", 0.0)
    assert not compare(one, other, tmp_path / "x.png", "0,0,9,9", rounds=1)["same_answer"]


def test_a_program_that_fails_or_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("import sys; sys.exit('out of order')")
    with pytest.raises(SystemExit, match="ended with code 1: out of order"):
        Program((sys.executable, "c.py"), tmp_path).describe(tmp_path / "x.png", "0,0,9,9")
    with pytest.raises(SystemExit, match="cannot run no-such-program: No such file or directory"):
        Program(("no-such-program",), tmp_path).describe(tmp_path / "x.png", "0,0,9,9")
    with pytest.raises(SystemExit, match="2"):
        main(["--against", "x", "--rounds", "0"])

"""How long `dynrefer describe` takes on one image, process start included, in this checkout and in another.

    python -m benchmarks.describe_start --against PROGRAM [--against-folder DIR] [--rounds 15]

PROGRAM is the other checkout's command, an installed `dynrefer` or a line such as "PYTHON -m dynrefer.service.cli";
--against-folder is the folder that it runs in. Both run in turn, and in every other round the other one first, because
the speed of a shared machine moves: the result is the median of the rounds' ratios, below 1 where this checkout is
faster. Writes results/describe_start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.workbench.profiling.machine import ROOT, provenance

RESULT = Path(__file__).parent / "results" / "describe_start.json"
IMAGE = ROOT / "docs" / "images" / "scene.png"
# Both keep what Python compiles, whatever this shell says: otherwise each run would compile everything again.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Program:
    """A `dynrefer` to run. command: its words. folder: what it runs in."""

    command: tuple[str, ...]
    folder: Path

    def describe(self, image: Path, box: str) -> Run:
        """Run `describe` once. Raises SystemExit, with what it wrote, where it fails."""
        line = [*self.command, "describe", str(image), "--box", box, "--device", "cpu", "--json"]
        used, started = _processor_seconds(), time.perf_counter()
        try:
            done = subprocess.run(line, cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SystemExit(f"describe_start: cannot run {shlex.join(self.command)}: {error.strerror}.") from error
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(
                f"describe_start: {shlex.join(line)} ended with code {done.returncode}: {done.stderr.strip()}"
            )
        return Run(seconds, _processor_seconds() - used, _without_times(json.loads(done.stdout)))

    @property
    def commit(self) -> str:
        """Of the checkout that it runs in; empty where that is none."""
        line = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(line, cwd=self.folder, capture_output=True, text=True, check=False).stdout.strip()


@dataclass(frozen=True)
class Run:
    """Seconds that passed, seconds of the processor, and what was answered, without times."""

    seconds: float
    processor_seconds: float
    answer: Any


def _processor_seconds() -> float:
    """Of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _without_times(answer: Any) -> Any:
    """What must be the same in both programs' answers: all but the members called `timings_ms`."""
    if isinstance(answer, dict):
        return {name: _without_times(value) for name, value in answer.items() if name != "timings_ms"}
    return [_without_times(each) for each in answer] if isinstance(answer, list) else answer


def compare(this: Program, other: Program, image: Path, box: str, rounds: int) -> dict[str, Any]:
    """Run both `rounds` times in turn, after one run each that warms the disk's cache."""
    pairs: list[tuple[Run, Run]] = []
    for number in range(rounds + 1):
        if number % 2:
            mine, theirs = this.describe(image, box), other.describe(image, box)
        else:
            theirs, mine = other.describe(image, box), this.describe(image, box)
        if number:
            pairs.append((mine, theirs))
            print(f"round {number}: {mine.seconds:.2f} s, {theirs.seconds:.2f} s", file=sys.stderr)
    return {
        **provenance(),
        "against_commit": other.commit,
        "image": image.name,
        "box": box,
        "rounds": rounds,
        "seconds": round(statistics.median(mine.seconds for mine, _ in pairs), 3),
        "against_seconds": round(statistics.median(theirs.seconds for _, theirs in pairs), 3),
        "ratio": round(statistics.median(mine.seconds / theirs.seconds for mine, theirs in pairs), 4),
        "processor_ratio": round(
            statistics.median(mine.processor_seconds / theirs.processor_seconds for mine, theirs in pairs), 4
        ),
        "ratios": [round(mine.seconds / theirs.seconds, 3) for mine, theirs in pairs],
        "same_answer": all(mine.answer == theirs.answer for mine, theirs in pairs),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.describe_start", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--against", required=True, metavar="PROGRAM", help="the other checkout's dynrefer command")
    parser.add_argument("--against-folder", type=Path, default=ROOT, help="what PROGRAM runs in [this checkout]")
    parser.add_argument("--image", type=Path, default=IMAGE, help="[docs/images/scene.png]")
    parser.add_argument("--box", default="41,2,117,82", help="x1,y1,x2,y2 in pixels [%(default)s]")
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/describe_start.json]")
    given = parser.parse_args(arguments)
    if given.rounds < 1:
        parser.error("--rounds must be at least 1.")
    this = Program((sys.executable, "-m", "dynrefer.service.cli"), ROOT)
    other = Program(tuple(shlex.split(given.against)), given.against_folder)
    text = json.dumps(compare(this, other, given.image.resolve(), given.box, given.rounds), indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

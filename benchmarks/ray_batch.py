"""`python -m benchmarks.ray_batch` compares `dynrefer batch` with `--engine ray`; prints JSON and writes
results/ray_batch.json.

Rate, start-up and memory: the embedded model with a thread each, over the same regions of the photographs, in this
process's engine, with one worker and with two, in turn, because a shared machine's speed varies. Start-up is from the
command's start to its first answer, in its journal; memory is the most of all its processes together, private to them
(USS), Ray's own among them. All outputs have to be the same bytes.

Ceiling: how many images a second the command itself can journal, which is what its workers share; answers are those of
the local run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.batch import OF_AN_IMAGE, PHOTOGRAPHS, write_requests
from dynrefer.service.batch.journal import Journal, journal_path
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parent / "results" / "ray_batch.json"
WAYS = {
    "local": (),
    "ray, 1 worker": ("--engine", "ray", "--replicas", "1", "--replica-gpus", "0"),
    "ray, 2 workers": ("--engine", "ray", "--replicas", "2", "--replica-gpus", "0"),
}
LOOK_EVERY_S = 0.25
CEILING_IMAGES = 50_000
_RATE = re.compile(r"([0-9,.]+) regions/s")


def run(file: Path, out: Path, options: tuple[str, ...]) -> dict[str, float]:
    """One command, a thread for each model; what it took."""
    command = [sys.executable, "-m", "dynrefer.service.cli", "batch", str(file), "--out", str(out), "--device", "cpu"]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*command, *options], stderr=said, env={**os.environ, "OMP_NUM_THREADS": "1"})
        journal, first, most, count = journal_path(out), 0.0, 0.0, 0
        while process.poll() is None:
            if not first and journal.exists() and journal.read_bytes().count(b"\n") > 1:
                first = time.monotonic() - began
            mib, processes = private_mib(process.pid)
            most, count = max(most, mib), max(count, processes)
            time.sleep(LOOK_EVERY_S)
        said.seek(0)
        words = said.read()
    found = _RATE.search(words.splitlines()[-1] if words else "")
    if process.returncode != 0 or found is None:
        raise SystemExit(f"batch: exit code {process.returncode}: {words}")
    whole = time.monotonic() - began
    rate = float(found[1].replace(",", ""))
    return {"regions_per_s": rate, "first_answer_s": first, "whole_s": whole, "most_mib": most, "processes": count}


def private_mib(process: int) -> tuple[float, int]:
    """Of a process and all below it, and how many these are."""
    total, count = 0, 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process)
        for each in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += each.memory_full_info().uss
                count += 1
    return total / 2**20, count


def compare(folder: Path, rounds: int, images: int) -> dict[str, Any]:
    """All ways in turn; medians, and the rates of all rounds."""
    file = write_requests(folder / "requests.jsonl", sorted(PHOTOGRAPHS.glob("*.jpg")), images)
    taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    outputs: set[bytes] = set()
    for place in range(rounds):
        for number, (way, options) in enumerate(WAYS.items()):
            out = folder / f"out-{place}-{number}.jsonl"
            taken[way].append(run(file, out, options))
            print(way, taken[way][-1], file=sys.stderr, flush=True)
            outputs.add(out.read_bytes())
    found: dict[str, Any] = {"images": images, "regions": images * OF_AN_IMAGE, "rounds": rounds}
    found["the_same_bytes"] = len(outputs) == 1
    for way, runs in taken.items():
        found[way] = {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
        found[way]["regions_per_s_of_each_round"] = [run["regions_per_s"] for run in runs]
    return found


def ceiling(folder: Path) -> dict[str, Any]:
    """Images a second that are appended to a journal by one process, with a sync at the end."""
    answers = [json.loads(line) for line in (folder / "out-0-0.jsonl").read_text(encoding="utf-8").splitlines()]
    with Journal(journal_path(folder / "ceiling.jsonl")) as journal:
        journal.begin({})
        began = time.perf_counter()
        for place in range(CEILING_IMAGES):
            journal.append(place.to_bytes(16, "big"), answers[place % len(answers)])
        journal.sync()
        seconds = time.perf_counter() - began
        size = journal.end
    return {
        "images": CEILING_IMAGES,
        "regions_of_an_image": OF_AN_IMAGE,
        "bytes_of_an_image": round(size / CEILING_IMAGES),
        "images_per_s": round(CEILING_IMAGES / seconds),
        "regions_per_s": round(CEILING_IMAGES / seconds * OF_AN_IMAGE),
        "megabytes_per_s": round(size / seconds / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=88, help="of a round, with 8 regions each")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    load = [round(each, 1) for each in os.getloadavg()]
    with tempfile.TemporaryDirectory() as name:
        found = {"comparison": compare(Path(name), given.rounds, given.images), "ceiling": ceiling(Path(name))}
    loads = {"before": load, "after": [round(each, 1) for each in os.getloadavg()]}
    arguments = f" --rounds {given.rounds} --images {given.images}"
    made_by = "python -m benchmarks.ray_batch" + arguments
    document = {"made_by": made_by, **provenance(), "load_of_the_machine": loads, **found}
    print(json.dumps(document, indent=1))
    given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

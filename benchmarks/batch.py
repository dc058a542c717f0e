"""`python -m benchmarks.batch` compares `dynrefer batch` with the bare predictor and follows its memory; prints JSON
and writes results/batch.json.

Rate: the bare predictor in a loop (decode, prepare, run in batches, finish), and the command, describe the same regions
of the photographs in turn, each in a process of its own, because a shared machine's speed varies; loading is left out
of both. Memory: the command with a predictor that computes nothing (tests/fakes.py) over many regions of many images;
the resident memory of its processes together, by the tenth of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from dynrefer.service import set_thread_environment
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parent / "results" / "batch.json"
PHOTOGRAPHS = Path(__file__).parent / "photographs"
OF_AN_IMAGE = 8  # regions
BATCH = 16  # regions of the loop's batches, as many as the service's on a CPU
LEAST_RATIO = 0.95
MOST_GROWTH = 0.05  # of the memory after a tenth of the run
_RATE = re.compile(r"([0-9,.]+) regions/s")


def write_requests(file: Path, images: list[Path], count: int, seed: int = 1) -> Path:
    """So many requests with OF_AN_IMAGE random boxes each, about these images in turn."""
    rng = random.Random(seed)
    with file.open("w", encoding="utf-8") as lines:
        for place in range(count):
            corners = [(rng.uniform(0, 0.6), rng.uniform(0, 0.6)) for _ in range(OF_AN_IMAGE)]
            regions = [{"box": [x, y, x + rng.uniform(0.15, 0.4), y + rng.uniform(0.15, 0.4)]} for x, y in corners]
            request = {"image": str(images[place % len(images)]), "coordinates": "unit", "regions": regions}
            lines.write(json.dumps(request) + "\n")
    return file


def loop_rate(file: Path) -> float:
    """Regions a second of the bare predictor; in this process."""
    from dynrefer.model import DynRefer, RegionQuery, upright_pixels

    predictor = DynRefer.load("embedded", device="cpu")
    requests = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def describe(some: list[dict[str, Any]]) -> int:
        waiting: list[Any] = []
        done = 0
        for request in [*some, None]:
            if request is not None:
                pixels = upright_pixels(request["image"])
                height, width = pixels.shape[:2]
                scale = (width, height, width, height)
                boxes = [tuple(v * s for v, s in zip(each["box"], scale, strict=True)) for each in request["regions"]]
                waiting += predictor.prepare(pixels, [RegionQuery(box) for box in boxes])
            while len(waiting) >= BATCH or (request is None and waiting):
                batch, waiting = waiting[:BATCH], waiting[BATCH:]
                for region, output in zip(batch, predictor.run(batch), strict=True):
                    predictor.finish(region, output)
                done += len(batch)
        return done

    describe(requests[:2])  # lazy initialisation
    began = time.perf_counter()
    return describe(requests) / (time.perf_counter() - began)


def bare_rate(file: Path) -> float:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.batch", "--loop", str(file)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def command_rate(file: Path, folder: Path) -> float:
    """Regions a second of `dynrefer batch`, as it says itself."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "dynrefer.service.cli", "batch", str(file), "--out", f"{out}/out.jsonl"]
        done = subprocess.run([*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True)
    found = _RATE.search(done.stderr.splitlines()[-1] if done.stderr else "")
    if done.returncode != 0 or found is None:
        raise SystemExit(f"batch: exit code {done.returncode}: {done.stderr}")
    return float(found[1].replace(",", ""))


def rates(folder: Path, rounds: int, images: int) -> dict[str, Any]:
    """Both, in turn; the ratio is the median of those of the rounds."""
    file = write_requests(folder / "requests.jsonl", sorted(PHOTOGRAPHS.glob("*.jpg")), images)
    bare, command = [], []
    for _ in range(rounds):
        bare.append(bare_rate(file))
        command.append(command_rate(file, folder))
    ratio = statistics.median(one / other for one, other in zip(command, bare, strict=True))
    return {
        "regions": images * OF_AN_IMAGE,
        "loop_regions_per_s": [round(each, 2) for each in bare],
        "batch_regions_per_s": [round(each, 2) for each in command],
        "ratio": round(ratio, 3),
        "target": LEAST_RATIO,
        "met": ratio >= LEAST_RATIO,
    }


def memory(folder: Path, regions: int) -> dict[str, Any]:
    """MiB resident in the process and its children, by the part of the regions that is in the journal."""
    images = sorted(PHOTOGRAPHS.glob("*.jpg"))
    file, out = write_requests(folder / "many.jsonl", images, regions // OF_AN_IMAGE, seed=2), folder / "many.out.jsonl"
    parquet = folder / "many.parquet"
    command = [sys.executable, "-m", "tests.service.batch.fake_run", str(file), str(out), str(parquet)]
    process = subprocess.Popen(command, env={**os.environ, "FAKE_PROCESSES": "2"})
    journal, whole, samples = Path(f"{out}.journal.jsonl"), 0, []
    while process.poll() is None:
        if journal.exists():
            samples.append((journal.stat().st_size, resident_mib(process.pid)))
        time.sleep(0.25)
    if process.returncode != 0:
        raise SystemExit(f"batch: exit code {process.returncode}")
    whole = journal.stat().st_size
    tenths = [
        max((mib for size, mib in samples if place <= 10 * size / whole < place + 1), default=0.0)
        for place in range(10)
    ]
    writing = max((mib for size, mib in samples if size >= whole * 0.999), default=0.0)
    growth = tenths[9] / tenths[1] - 1
    return {
        "regions": regions,
        "images": regions // OF_AN_IMAGE,
        "mib_by_tenth_of_the_run": [round(each) for each in tenths],
        "mib_while_files_are_written": round(writing),
        "growth": round(growth, 3),
        "target": MOST_GROWTH,
        "met": growth <= MOST_GROWTH,
    }


def resident_mib(process: int) -> float:
    """Of a process and all below it; what they share counts once for each."""
    total = 0
    try:
        parent = psutil.Process(process)
        for each in (parent, *parent.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", type=Path, help="print the bare predictor's rate over these requests")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=88, help="of a round, with 8 regions each")
    parser.add_argument("--regions", type=int, default=100_000, help="of the memory's run; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if given.loop is not None:
        set_thread_environment()  # neither NumPy nor torch is loaded yet
        print(loop_rate(given.loop))
        return
    with tempfile.TemporaryDirectory() as name:
        found: dict[str, Any] = {"rate": rates(Path(name), given.rounds, given.images)} if given.rounds else {}
        if given.regions:
            found["memory"] = memory(Path(name), given.regions)
    document = {"made_by": "python -m benchmarks.batch", **provenance(), **found}
    print(json.dumps(document, indent=1))
    given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

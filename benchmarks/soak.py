"""`python -m benchmarks.soak` puts a real service under load, at length, and prints the table of figures that a service
is judged by. The load comes from a process of its own (benchmarks/arrivals.py).

In turn: a predictor that does nothing (the cost of HTTP alone); then the model: the offline loop, eight clients, the
long run with poison and disconnects, /livez while huge pictures are decoded, twice what it can carry, and SIGTERM under
that load. Figures of one run on one machine; `--quick` shows that it works, not what it measures.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpcore2
import numpy as np
from PIL import Image

from benchmarks.fuzz import memory_mb, service
from benchmarks.machine import provenance

SCENE = Path(__file__).parents[1] / "docs" / "images" / "scene.png"
MEMORY_EVERY_S = 0.5


@dataclass(frozen=True)
class Sizes:
    """How much of everything. seconds: of a short phase."""

    seconds: float
    requests: int
    overload_seconds: float


FULL, QUICK = Sizes(20, 20_000, 120), Sizes(4, 40, 8)


@dataclass(frozen=True)
class Row:
    """One line of the table. ok: None where there is nothing to hold it against."""

    figure: str
    value: str
    target: str
    ok: bool | None


class Bench:
    """A running service and its load."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address, self._folder = address, folder

    def load(self, **plan: Any) -> list[dict[str, Any]]:
        """Start the load, wait for its end, read what it recorded."""
        running, out = self.begin(**plan)
        if running.wait():
            raise SystemExit("the load generator failed; its message stands above.")
        return read(out)

    def await_traffic(self) -> None:
        """Until a load that was begun has reached the service."""
        before = self._answered()
        while self._answered() < before + 5:
            time.sleep(0.05)

    def _answered(self) -> float:
        """How many descriptions were answered so far, in whatever way."""
        text = httpcore2.request("GET", self._address + "/metrics").content.decode()
        lines = [line for line in text.splitlines() if line.startswith("dynrefer_requests_total{")]
        return sum(float(line.split()[1]) for line in lines if 'route="/v1/describe"' in line)

    def begin(self, **plan: Any) -> tuple[subprocess.Popen[bytes], Path]:
        """Start the load; give its process and the file that it will write."""
        number = len(list(self._folder.glob("plan*")))
        where, out = self._folder / f"plan{number}.json", self._folder / f"out{number}.jsonl"
        where.write_text(json.dumps({"address": self._address, **plan}), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.arrivals", str(where), str(out)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL), out


def read(out: Path) -> list[dict[str, Any]]:
    """One record per line."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def ms(records: Sequence[dict[str, Any]], percent: float, kind: str = "good", *statuses: int) -> float:
    """A percentile of the times of some records, in milliseconds; NaN where there are none."""
    times = [
        each["seconds"] for each in records if each["kind"] == kind and (not statuses or each["status"] in statuses)
    ]
    return float(np.percentile(times, percent)) * 1e3 if times else float("nan")


def rate(records: Sequence[dict[str, Any]], regions: int = 1) -> float:
    """Good answers (regions) per second while requests kept coming, without the first quarter, in which queues fill."""
    good = [each for each in records if each["kind"] == "good"]
    first, last = min(each["due"] for each in good), max(each["due"] for each in good)
    begin = first + (last - first) / 4
    done = sum(each["status"] == 200 and begin <= each["due"] + each["seconds"] <= last for each in good)
    return regions * done / max(last - begin, 1e-9)


def pictures(folder: Path) -> tuple[str, str]:
    """A JPEG of about 10 kB, and one of 40 megapixels."""
    rng = np.random.default_rng(1)
    small, large = folder / "small.jpg", folder / "large.jpg"
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((320, 240)).save(small, quality=92)
    Image.fromarray(rng.integers(0, 256, (50, 80, 3), np.uint8)).resize((8_000, 5_000)).save(large, quality=80)
    return str(small), str(large)


def without_model(sizes: Sizes, folder: Path, small: str) -> list[Row]:
    """What HTTP alone costs."""
    with service() as (_, address):
        bench = Bench(address, folder)
        bench.load(image=small, clients=1, seconds=1)
        one = bench.load(image=small, clients=1, seconds=sizes.seconds)
        many = bench.load(image=small, clients=32, seconds=sizes.seconds)
    p50, per_s = ms(one, 50), rate(many)
    return [
        Row("no-op model, 10 kB JPEG, one client: p50", f"{p50:.2f} ms", "< 4 ms", p50 < 4),
        Row("no-op model, 32 clients", f"{per_s:.0f} requests/s", ">= 400", per_s >= 400),
    ]


def offline_rate(seconds: float, batch: int) -> float:
    """Regions per second of a plain loop over the predictor, decoding included; in a process of its own.

    Every region is another, as those of the clients are: the network encodes equal views of a batch once.
    """
    code = (
        "import service, random, sys, time; from model import DynRefer, RegionQuery\n"
        "from model.pixels import upright_pixels\n"
        f"model, path, batch, seconds = DynRefer.load('embedded', device='cpu'), {str(SCENE)!r}, {batch}, {seconds}\n"
        "rng = random.Random(1)\n"
        "def asked(width, height):\n"
        "    corners = [(rng.uniform(0, 0.6), rng.uniform(0, 0.6)) for _ in range(8)]\n"
        "    boxes = [(x, y, x + 0.3, y + 0.3) for x, y in corners]\n"
        "    return [RegionQuery((a * width, b * height, c * width, d * height)) for a, b, c, d in boxes]\n"
        "def once():\n"
        "    regions = []\n"
        "    while len(regions) < batch:\n"
        "        pixels = upright_pixels(path)\n"
        "        regions += model.prepare(pixels, asked(pixels.shape[1], pixels.shape[0]))\n"
        "    [model.finish(r, o) for r, o in zip(regions, model.run(regions))]\n"
        "    return len(regions)\n"
        "once(); began = time.perf_counter(); done = 0\n"
        "while time.perf_counter() - began < seconds: done += once()\n"
        "print(done / (time.perf_counter() - began))"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def with_model(sizes: Sizes, folder: Path, large: str, command: Sequence[str]) -> list[Row]:
    """The model under every kind of load, and its end."""
    offline = offline_rate(sizes.seconds, 16)
    with service(*command) as (process, address):
        bench, scene = Bench(address, folder), str(SCENE)
        bench.load(image=scene, regions=8, clients=8, seconds=sizes.seconds / 2)
        lone = bench.load(image=scene, clients=1, seconds=sizes.seconds)
        eight = bench.load(image=scene, regions=8, clients=8, seconds=sizes.seconds)
        beside, _ = bench.begin(image=scene, regions=64, clients=2, seconds=2 * sizes.seconds)
        time.sleep(sizes.seconds / 2)
        small = bench.load(image=scene, clients=1, seconds=sizes.seconds)
        beside.wait()
        # What it carries where every request brings a picture of its own for a single region.
        peak = max(0.1, rate(bench.load(image=scene, clients=16, seconds=sizes.seconds)))
        rows = [_offline_row(rate(eight, 8), offline), _lone_row(lone), _small_row(small, lone)]
        rows += soak(bench, process.pid, sizes, scene, peak)
        rows.append(_huge_row(bench.load(image=large, clients=2, seconds=sizes.seconds)))
        rows += overload(bench, process, sizes, scene, peak)
    return rows


def _offline_row(peak: float, offline: float) -> Row:
    value = f"{peak:.1f} / {offline:.1f} regions/s = {peak / offline:.1%}"
    return Row(
        "8 clients, 8 regions each / the offline loop, decoding included", value, ">= 95 %", peak >= 0.95 * offline
    )


def _lone_row(lone: Sequence[dict[str, Any]]) -> Row:
    queued = [each["queue_ms"] for each in lone if each["queue_ms"] is not None]
    p99 = float(np.percentile(queued, 99))
    return Row("a lone request's wait for its batch: p99", f"{p99:.2f} ms", "<= 2 ms, the setting", p99 <= 2)


def _small_row(small: Sequence[dict[str, Any]], lone: Sequence[dict[str, Any]]) -> Row:
    value = f"{ms(small, 99):.0f} ms (alone {ms(lone, 99):.0f})"
    return Row("one region beside two clients that ask for 64 at a time: p99", value, "", None)


def _huge_row(huge: Sequence[dict[str, Any]]) -> Row:
    p99 = ms(huge, 99, "livez")
    return Row("/livez while 40-megapixel pictures are decoded: p99", f"{p99:.1f} ms", "< 50 ms", p99 < 50)


def soak(bench: Bench, pid: int, sizes: Sizes, scene: str, peak: float) -> list[Row]:
    """Many requests at 70 % of what it carries, one in a hundred poison and one in a hundred hanging up."""
    memory, stop = [memory_mb(pid)], threading.Event()

    def sample() -> None:
        while not stop.wait(MEMORY_EVERY_S):
            memory.append(memory_mb(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    records = bench.load(image=scene, rate=0.7 * peak, requests=sizes.requests, poison=0.01, disconnects=0.01)
    stop.set()
    sampler.join()
    good = [each for each in records if each["kind"] == "good"]
    failed = sum(each["status"] != 200 for each in good)
    strange = sum(each["status"] not in (200, 415, 422, 413) for each in records if each["kind"] == "poison")
    hung = sum(each["kind"] == "hung" for each in records)
    rest = memory[len(memory) // 4 :]
    growth = float(np.polyfit(np.arange(len(rest)), rest, 1)[0] * (len(rest) - 1)) if len(rest) > 1 else 0.0
    return [
        Row(f"{len(good)} good requests beside 1 % poison and 1 % disconnects: not 200", f"{failed}", "0", failed == 0),
        Row(
            "poison answered otherwise than 2xx, 413, 415, 422; hung", f"{strange}; {hung}", "0; 0", not strange + hung
        ),
        Row("good requests at 70 % of the peak: p50, p99", f"{ms(good, 50):.0f}, {ms(good, 99):.0f} ms", "", None),
        Row(
            "memory growth over the run, first quarter apart",
            f"{growth:+.1f} MB of {rest[-1]:.0f}",
            "flat",
            growth < 16,
        ),
    ]


def overload(bench: Bench, process: subprocess.Popen[bytes], sizes: Sizes, scene: str, peak: float) -> list[Row]:
    """Twice what it carries, and SIGTERM in the middle of it."""
    records = bench.load(image=scene, rate=2 * peak, seconds=sizes.overload_seconds)
    goodput = rate(records)
    reject, livez = ms(records, 99, "good", 429), ms(records, 99, "livez")
    running, out = bench.begin(image=scene, rate=2 * peak, seconds=sizes.overload_seconds / 2, seed=2)
    bench.await_traffic()
    time.sleep(sizes.overload_seconds / 4)
    ended, code = time.time(), None
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    took = time.time() - ended
    running.wait()
    before = [each for each in read(out) if each["kind"] == "good" and each["due"] < ended - 0.05]
    lost = sum(each["status"] not in (200, 429, 503) for each in before)
    return [
        Row(
            "goodput at twice the load / peak",
            f"{goodput:.1f} / {peak:.1f} = {goodput / peak:.1%}",
            ">= 95 %",
            goodput >= 0.95 * peak,
        ),
        Row(
            "time to reject at twice the load, above /livez: p99",
            f"{reject - livez:.1f} ms",
            "< 10 ms",
            reject - livez < 10,
        ),
        Row(f"SIGTERM with {len(before)} requests sent: lost", f"{lost}", "0", lost == 0),
        Row("exit code and time to exit", f"{code}, {took:.1f} s", "0", code == 0),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a minute instead of a quarter of an hour; its figures mean nothing"
    )
    parser.add_argument("--json", type=Path, help="where to write the table as JSON as well")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        small, large = pictures(Path(name))
        # Without its memory of earlier views: the load sends one picture over and over.
        command = ("service.cli", "serve", "--device", "cpu", "--cache-bytes", "0")
        rows = without_model(sizes, Path(name), small) + with_model(sizes, Path(name), large, command)
    print("| figure | value | target | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.figure} | {row.value} | {row.target} | {'' if row.ok is None else 'yes' if row.ok else 'NO'} |")
    if options.json:
        report = {"command": "make soak", **provenance(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

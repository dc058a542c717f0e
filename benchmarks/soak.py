"""`python -m benchmarks.soak` puts a real service under sustained load and prints a table of measurements and targets.
The load comes from a process of its own (benchmarks/arrivals.py).

Phases: a predictor that does nothing (the cost of HTTP alone); then the model: rounds of the offline loop, one client
and eight clients; one region beside a client that requests 200; a thumbnail beside clients that send hostile images;
the long run with poison and disconnects; /livez while huge images are decoded; twice the peak load; and SIGTERM under
that load. Results hold for one run on one machine; `--quick` only shows that the script works.
"""

import argparse
import json
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.attacks import images as hostile_images
from benchmarks.attacks.event_loop import asked_beside
from benchmarks.attacks.findings import unexpected
from benchmarks.attacks.served import Service, longest, percentile_ms
from benchmarks.fuzz import memory_mb, service
from benchmarks.load import Bench, Records, Row, Sizes, ms, rate, read
from benchmarks.offline import SCENE, Offline
from benchmarks.rounds import Rounds, in_turn
from dynrefer.workbench.profiling.machine import provenance

# Without the feature cache, because the load sends the same image again and again.
COMMAND = ("dynrefer.service.cli", "serve", "--device", "cpu", "--cache-bytes", "0")
MEMORY_EVERY_S = 0.5
HOSTILE_BYTES = 4_000_000
ORDINARY_MS = 2_000.0

FULL = Sizes(10, 5, 5, 20, 20_000, 45, 20)
QUICK = Sizes(3, 2, 2, 4, 40, 6, 2)


@dataclass(frozen=True)
class Images:
    """JPEG files: about 10 kB, 12 megapixels, 40 megapixels."""

    small: str
    camera: str
    huge: str


def draw_images(folder: Path) -> Images:
    """Write images of smooth noise."""
    rng = np.random.default_rng(1)

    def drawn(name: str, size: tuple[int, int], quality: int) -> str:
        coarse = rng.integers(0, 256, (12 * size[1] // size[0] + 4, 16, 3), np.uint8)
        Image.fromarray(coarse).resize(size).save(folder / name, quality=quality)
        return str(folder / name)

    return Images(
        drawn("small.jpg", (320, 240), 92),
        drawn("camera.jpg", (4_000, 3_000), 80),
        drawn("huge.jpg", (8_000, 5_000), 80),
    )


def without_model(sizes: Sizes, folder: Path, small: str) -> tuple[list[Row], float]:
    """Rows on the cost of HTTP alone; and its median latency, ms, with the image that the model gets."""
    with service() as (_, address):
        bench = Bench(address, folder)
        bench.load(image=small, clients=1, seconds=1)
        one = bench.load(image=small, clients=1, seconds=sizes.seconds)
        many = bench.load(image=small, clients=32, seconds=sizes.seconds)
        scene = bench.load(image=SCENE, clients=1, seconds=sizes.round_seconds)
    p50, per_s = ms(one, 50), rate(many)
    rows = [
        Row("no-op model, 10 kB JPEG, one client: p50", f"{p50:.2f} ms", "< 4 ms", p50 < 4),
        Row("no-op model, 32 clients", f"{per_s:.0f} requests/s", ">= 400", per_s >= 400),
    ]
    return rows, ms(scene, 50)


def with_model(sizes: Sizes, folder: Path, files: Images, no_op_ms: float) -> tuple[list[Row], Offline]:
    """Rows of the model under each kind of load until it exits; and the last offline measurement."""
    with service(*COMMAND) as (process, address):
        bench = Bench(address, folder)
        bench.load(image=SCENE, regions=8, clients=8, seconds=sizes.seconds / 2)
        rounds = in_turn(bench, sizes)
        rows = [rounds.offline_row(), rounds.wait_row(), rounds.extra_row(no_op_ms)]
        rows += beside_a_large_one(sizes, folder, files, rounds)
        rows.append(beside_attacks(sizes))
        # Peak throughput when every request brings an image for a single region.
        peak = max(0.1, rate(bench.load(image=SCENE, clients=16, seconds=sizes.seconds)))
        rows += soak(bench, process.pid, sizes, peak)
        rows.append(_huge_row(bench.load(image=files.huge, clients=2, seconds=sizes.seconds)))
        rows += overload(bench, process, sizes, peak)
    return rows, rounds.offline[-1]


def beside_a_large_one(sizes: Sizes, folder: Path, files: Images, rounds: Rounds) -> list[Row]:
    """One region at a time while another client requests 200 at a time, of a small and of a 12-megapixel image."""
    alone_ms = ms(rounds.all_lone, 99)
    limit_ms = alone_ms + 3e3 * median(each.batch_s for each in rounds.offline)
    rows = []
    with service(*COMMAND, "--max-regions", "200", "--max-queue-regions", "512") as (_, address):
        bench = Bench(address, folder)
        for name, image in (("the same image", SCENE), ("a 12-megapixel image", files.camera)):
            beside, out = bench.begin(image=image, regions=200, clients=1, seconds=sizes.beside_seconds + 2)
            time.sleep(2)
            small = bench.load(image=SCENE, clients=1, seconds=sizes.beside_seconds)
            beside.wait()
            rows.append(_beside_row(name, small, read(out), alone_ms, limit_ms))
    return rows


def _beside_row(name: str, small: Records, large: Records, alone_ms: float, limit_ms: float) -> Row:
    ones, others = ([each for each in some if each["kind"] == "good"] for some in (small, large))
    p99 = ms(small, 99)
    failed = sum(each["status"] != 200 for each in ones + others)
    return Row(
        f"one region beside a client that requests 200 of {name} at a time: p99; not 200",
        f"{p99:.0f} ms of {len(ones)} beside {len(others)} (alone {alone_ms:.0f}); {failed}",
        f"<= {limit_ms:.0f} ms, the lone p99 + the time of 3 full batches; 0",
        p99 <= limit_ms and not failed and len(others) > 0,
    )


def beside_attacks(sizes: Sizes) -> Row:
    """One thumbnail at a time while four clients send hostile images, those of `make attacks` below 4 MB, in turn."""
    files = [data for make in hostile_images.catalogue().values() if len(data := make()) < HOSTILE_BYTES]
    with Service() as attacked:
        attacked.describe()
        ordinary, statuses = asked_beside(attacked, attacked.describe, 0.05, files, 4, 4 * sizes.beside_seconds)
    p99, failed = percentile_ms(ordinary, 99), sum(each.status != 200 for each in ordinary)
    strange = unexpected(statuses)
    return Row(
        "one thumbnail at a time beside four clients with hostile images: p99, longest; not 200",
        f"{p99:.0f} ms, {longest(ordinary) * 1e3:.0f} ms of {len(ordinary)} beside {len(statuses)}; {failed}",
        f"<= {ORDINARY_MS:.0f} ms, a generous bound; 0; hostile images answered as `make attacks` allows",
        p99 <= ORDINARY_MS and not failed and not strange,
    )


def _huge_row(huge: Records) -> Row:
    p99 = ms(huge, 99, "livez")
    return Row("/livez while 40-megapixel images are decoded: p99", f"{p99:.1f} ms", "< 50 ms", p99 < 50)


def soak(bench: Bench, pid: int, sizes: Sizes, peak: float) -> list[Row]:
    """Many requests at 70 % of the peak, 1 % of them poison and 1 % disconnecting."""
    memory, stop = [memory_mb(pid)], threading.Event()

    def sample() -> None:
        while not stop.wait(MEMORY_EVERY_S):
            memory.append(memory_mb(pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    records = bench.load(image=SCENE, rate=0.7 * peak, requests=sizes.requests, poison=0.01, disconnects=0.01)
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
        Row("poison answered other than 200, 413, 415, 422; hung", f"{strange}; {hung}", "0; 0", not strange + hung),
        Row("good requests at 70 % of the peak: p50, p99", f"{ms(good, 50):.0f}, {ms(good, 99):.0f} ms", "", None),
        Row(
            "memory growth over the run, without the first quarter",
            f"{growth:+.1f} MB of {rest[-1]:.0f}",
            "flat",
            growth < 16,
        ),
    ]


def overload(bench: Bench, process: subprocess.Popen[bytes], sizes: Sizes, peak: float) -> list[Row]:
    """Twice the peak load, and SIGTERM under it."""
    records = bench.load(image=SCENE, rate=2 * peak, seconds=sizes.overload_seconds)
    goodput = rate(records)
    reject, livez = ms(records, 99, "good", 429), ms(records, 99, "livez")
    running, out = bench.begin(image=SCENE, rate=2 * peak, seconds=1.5 * sizes.drain_after_seconds, seed=2)
    bench.await_traffic()
    time.sleep(sizes.drain_after_seconds)
    ended = time.time()
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
        "--quick", action="store_true", help="two minutes instead of a quarter of an hour; the results mean nothing"
    )
    parser.add_argument("--json", type=Path, help="where to write the table as JSON as well")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw_images(folder)
        rows, no_op_ms = without_model(sizes, folder, files.small)
        more, offline = with_model(sizes, folder, files, no_op_ms)
    rows += more
    print("| measurement | value | target | |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.figure} | {row.value} | {row.target} | {'' if row.ok is None else 'yes' if row.ok else 'NO'} |")
    if options.json:
        model = {"model": offline.model, "revision": offline.revision}
        report = {**provenance(), "command": "make soak", **model, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

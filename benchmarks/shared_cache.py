"""`python -m benchmarks.shared_cache`: what the shared cache costs and saves, whatever has become of its Redis.

One process, the embedded model on one thread, batches of four new regions of a photograph, tags alone: the least that
a batch costs. The columns are measured in turns, batch by batch, so that what else the machine does meets all alike:

none            no shared cache
found           a Redis of this machine that has every region
not found       one that has none: each is looked up, computed and put there
killed          one that was killed (kill -9) once it had been used
stopped         one that was stopped (SIGSTOP) once it had been used
black hole      a listener that accepts and never answers

batch_ms: from image to records, on the clock. cpu_ms: of that thread, which is the device's. waited_ms: how long it
waits for the store, which with cpu_ms is all that the cache costs it; waited_share: its part of all batches.
Writes results/shared_cache.json. Needs Debian's redis-server.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from dynrefer.model import DynRefer, RegionQuery, Task
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import load_model
from dynrefer.service.scale.redis_store import RedisStore, open_store
from dynrefer.service.scale.sealing import Seal
from dynrefer.service.settings import Settings
from dynrefer.workbench.profiling.machine import provenance

HERE = Path(__file__).parent
IMAGE = HERE / "photographs" / "tourist.jpg"
RESULT = HERE / "results" / "shared_cache.json"
BATCH = 4
SECRET = b"a secret of this measurement alone"


class TimedStore:
    """A store, and the seconds of every look-up."""

    def __init__(self, inner: RedisStore) -> None:
        self.inner = inner
        self.waited_s: list[float] = []

    def get_many(self, keys: Sequence[bytes], size: int) -> Sequence[bytes | None]:
        began = time.perf_counter()
        try:
            return self.inner.get_many(keys, size)
        finally:
            self.waited_s.append(time.perf_counter() - began)

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        self.inner.put_many(values)


class Redis:
    """A server on a Unix socket of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.sock"
        options = ["--port", "0", "--save", "", "--maxmemory", "512mb", "--maxmemory-policy", "allkeys-lru"]
        self.process = subprocess.Popen(
            ["redis-server", *options, "--dir", str(folder), "--unixsocket", str(self._path)],
            stdout=subprocess.DEVNULL,
        )
        while not self._path.exists():
            time.sleep(0.05)
        self.url = f"unix://{self._path}"


def black_hole() -> str:
    """The URL of a listener that accepts and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    kept = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                kept.append(server.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return f"redis://127.0.0.1:{server.getsockname()[1]}"


def opened(url: str, secret: Path) -> TimedStore:
    """A store with the service's own limits."""
    store = open_store(Settings(shared_cache=url, shared_cache_secret_file=secret))  # type: ignore[arg-type]
    assert store is not None
    return TimedStore(store)


def connected(store: TimedStore) -> TimedStore:
    """Once it is used."""
    until = time.monotonic() + 30
    while not store.inner.counts.reading and time.monotonic() < until:
        store.get_many([b"x"], 1)
        time.sleep(0.05)
    store.waited_s.clear()
    return store


def queries(number: int) -> list[RegionQuery]:
    """Four regions that no other number has."""
    left, top = number % 23 * 2.0, number // 23 * 2.0
    corners = [(left + 40 * i, top + 30 * i) for i in range(BATCH)]
    return [RegionQuery((x, y, x + 240, y + 200), (Task.TAGS,)) for x, y in corners]


def describe(model: DynRefer, pixels: Any, number: int) -> tuple[float, float, Any]:
    """Milliseconds on the clock and of this thread, and the answers."""
    began, busy = time.perf_counter(), time.thread_time()
    regions = model.prepare(pixels, queries(number))
    outputs = model.run(regions)
    found = [model.finish(region, output).results for region, output in zip(regions, outputs, strict=True)]
    return (time.perf_counter() - began) * 1e3, (time.thread_time() - busy) * 1e3, found


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(part * len(ordered)))] for part in (0.5, 0.99)]
    return {"p50": round(at[0], 3), "p99": round(at[1], 3), "max": round(ordered[-1], 3)}


def row(spent: Sequence[float], busy: Sequence[float], store: TimedStore | None) -> dict[str, Any]:
    """One column's figures."""
    found: dict[str, Any] = {"batch_ms": percentiles(spent), "cpu_ms": percentiles(busy)}
    if store is not None:
        waited = [each * 1e3 for each in store.waited_s]
        counts = store.inner.counts
        found |= {
            "waited_ms": percentiles(waited),
            "waited_share": round(sum(waited) / sum(spent), 5),
            "read_errors": counts.read_errors,
            "in_use_at_the_end": counts.reading,
        }
    return found


def seal_us(size: int) -> float:
    """Microseconds in which a value of so many bytes is checked, with a secret: the median of 200."""
    seal, value = Seal(SECRET), b"x" * size
    sealed, spent = seal.closed(b"key", value), []
    for _ in range(200):
        began = time.perf_counter()
        seal.opened(b"key", sealed)
        spent.append((time.perf_counter() - began) * 1e6)
    return round(statistics.median(spent), 1)


def measure(folder: Path, batches: int) -> dict[str, Any]:
    """All columns."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    servers = {name: Redis(folder, name) for name in ("found", "not-found", "killed", "stopped")}
    try:
        return _measure(servers, secret, batches)
    finally:
        for each in servers.values():
            each.process.kill()


def _measure(servers: Mapping[str, Redis], secret: Path, batches: int) -> dict[str, Any]:
    stores = {name.replace("-", " "): connected(opened(server.url, secret)) for name, server in servers.items()}
    stores["black hole"] = opened(black_hole(), secret)
    loaded = load_model("embedded", device="cpu", dtype="float32")
    models = {"none": DynRefer(loaded)} | {name: DynRefer(loaded, shared_cache=each) for name, each in stores.items()}
    pixels = upright_pixels(IMAGE)
    for number in range(batches):
        describe(models["found"], pixels, number)  # puts all of them there
    for name in ("killed", "stopped"):
        describe(models[name], pixels, batches)
    time.sleep(1)
    servers["killed"].process.kill()
    servers["stopped"].process.send_signal(signal.SIGSTOP)
    for store in stores.values():
        store.waited_s.clear()
    spent: dict[str, list[float]] = {name: [] for name in models}
    busy: dict[str, list[float]] = {name: [] for name in models}
    for number in range(batches):
        expected: Any = None
        for name, model in models.items():
            took, of_thread, answers = describe(model, pixels, number)
            spent[name].append(took)
            busy[name].append(of_thread)
            expected = answers if expected is None else expected
            if answers != expected:
                raise SystemExit(f"{name}: batch {number} has other answers than without a shared cache")
    hits = models["found"].cache_stats["shared"].hits
    return {
        "columns": {name: row(each, busy[name], stores.get(name)) for name, each in spent.items()},
        "answers": "the same in all columns, to the last bit",
        "found_hits": hits,
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description="Measure what the shared cache costs.")
    parser.add_argument("--batches", type=int, default=100, help="[default: %(default)s]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.batches)
    report = {**provenance(), "command": f"python -m benchmarks.shared_cache --batches {options.batches}", **found}
    report |= {"batch": BATCH, "seal_us": {"10,252 bytes": seal_us(10_252), "98,320 bytes": seal_us(98_320)}}
    RESULT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()

"""Provenance of a measurement (machine, versions, commit), timing, and the machine's peak rates."""

import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from dynrefer.model.networks.kernels.onednn import OneDnnLinear, available, linear

ROOT = Path(__file__).resolve().parents[2]
COMMIT_FILE = "COMMIT"  # where the files are no checkout: what `commit` said where they came from
SIDE_CPU, SIDE_GPU = 1024, 8192  # of the square matrices whose product is timed
COPY_BYTES = 1 << 28


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Command, date, commit ("+changes" if files other than results differ from it), machine and versions."""
    device = torch.device(device)
    return {
        "command": _command(sys.orig_argv),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def commit() -> str:
    """Of the checkout, with "+changes" if files other than results differ from it."""
    if (ROOT / COMMIT_FILE).is_file():
        return (ROOT / COMMIT_FILE).read_text(encoding="utf-8").strip()
    changes = _git("status", "--porcelain", "-uno", "--", ".", ":!benchmarks/results")
    return _git("rev-parse", "--short", "HEAD") + ("+changes" if changes else "")


def heading(report: dict[str, Any]) -> str:
    """A report's first line: command, machine, threads, commit, and the peak rates if the report has them."""
    machine = f"{report['processor']}, {report['device']}, {report['threads']} threads"
    line = f"`{report['command']}`, {machine}, commit {report['commit']}"
    if "gemm_gflops" in report:
        rates = ", ".join(f"{name} {rate:g}" for name, rate in report["gemm_gflops"].items())
        line += f"; products {rates} GFLOP/s, copy {report['copy_gb_s']:g} GB/s"
    return line


def gemm_gflops(
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", side: int | None = None, repeats: int = 5
) -> float:
    """Median rate of a square matrix product, GFLOP/s; side 1024 on a CPU, 8192 on a GPU."""
    device = torch.device(device)
    side = side or (SIDE_CPU if device.type == "cpu" else SIDE_GPU)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: a @ b, repeats, device) / 1e9


def onednn_gflops(device: torch.device | str = "cpu", repeats: int = 5) -> float:
    """`gemm_gflops` in float32 by oneDNN, as in the network's linear layers on a CPU; 0 if oneDNN is not available."""
    if not available() or torch.device(device).type != "cpu":
        return 0.0
    layer, rows = OneDnnLinear(SIDE_CPU, SIDE_CPU, bias=False), torch.randn(SIDE_CPU, SIDE_CPU)
    with torch.inference_mode():
        return 2 * SIDE_CPU**3 / median_seconds(lambda: linear(rows, layer), repeats) / 1e9


def copy_gb_s(device: torch.device | str = "cpu", repeats: int = 5) -> float:
    """Median bandwidth of copying 256 MiB, reads and writes counted, GB/s."""
    device = torch.device(device)
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / median_seconds(lambda: target.copy_(source), repeats, device) / 1e9


def median_seconds(call: Callable[[], object], repeats: int = 5, device: torch.device | str = "cpu") -> float:
    """Median time of `repeats` calls after a warm-up; waits for the device."""
    return statistics.median(every_seconds(call, repeats, torch.device(device)))


def every_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """The time of each of `repeats` calls after a warm-up, seconds; waits for the device."""
    call()
    times = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return times


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work; returns at once for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _command(typed: Sequence[str]) -> str:
    """The command as typed, without folders and the interpreter's options. typed: including the interpreter."""
    words = list(typed[1:])
    while words and words[0].startswith("-") and words[0] not in ("-m", "-c"):
        del words[: 2 if words[0] in ("-X", "-W") else 1]
    if words[:1] == ["-c"]:
        return "python -c"
    if words[:1] == ["-m"]:
        words.insert(0, "python")
    elif words:
        words[0] = Path(words[0]).name
    return shlex.join(map(_without_folder, words))


def _without_folder(word: str) -> str:
    path = Path(word)
    if not path.is_absolute():
        return word
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) and path.suffix else path.name


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    for line in names:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()

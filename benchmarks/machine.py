"""The machine and the code that a figure belongs to, and the ceilings measured in the same run."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def provenance() -> dict[str, Any]:
    """Machine, versions, commit (with a mark if the tree has changes), date."""
    import torch
    import transformers

    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain", "-uno") else ""),
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def gemm_gflops(side: int = 1024, repeats: int = 7) -> float:
    """Rate of a float32 matrix product of this side, median, in GFLOP/s."""
    import torch

    a, b = torch.randn(side, side), torch.randn(side, side)
    return 2 * side**3 / median_seconds(lambda: a @ b, repeats) / 1e9


def median_seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median time of `repeats` calls, after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    for line in names:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()

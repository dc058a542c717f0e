"""`dynrefer bench peers`: what a user would take instead, beside ours."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure

LOOK_EVERY_S = 1.0
ON_A_CPU = ("--models", "florence-2-base,dynrefer-medium", "--row-seconds", "5")  # to try the part itself


def measure(given: Conditions) -> Iterator[Figure]:
    """One figure per row of its report, as they are measured: the part may be cut before its end."""
    out = given.folder / "peers.json"
    command = [sys.executable, "-m", "dynrefer.service.cli", "bench", "peers", "--device", given.device]
    command += ["--out", str(out), *(() if given.is_gpu else ON_A_CPU)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen = 0
    while True:
        ended = running.poll() is not None  # before the rows are read, so that none is missed
        rows = _rows(out)
        for row in rows[seen:]:
            name = ", ".join(str(row[key]) for key in ("model", "way", "dtype", "batch"))
            yield Figure("peers", name, float(row["regions_per_s"]), "regions/s", detail=row)
        seen = len(rows)
        if ended:
            break
        time.sleep(LOOK_EVERY_S)
    if running.returncode:
        raise SystemExit(f"dynrefer bench peers ended with code {running.returncode}")


def _rows(out: Path) -> list[dict[str, Any]]:
    return list(json.loads(out.read_text(encoding="utf-8"))["rows"]) if out.exists() else []

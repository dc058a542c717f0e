"""`dynrefer bench peers`, where this checkout has it: what a user would take instead, beside ours."""

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from dynrefer.workbench.profiling.command import bench


def measure(given: Conditions) -> Iterator[Figure]:
    """One figure per row of its report."""
    if "peers" not in {command.name for command in bench.registered_commands}:
        yield Figure("peers", "dynrefer bench peers", "not there yet")
        return
    out = given.folder / "peers.json"
    command = [sys.executable, "-m", "dynrefer.service.cli", "bench", "peers", "--device", given.device]
    subprocess.run([*command, "--out", str(out)], stdout=subprocess.DEVNULL, check=True)
    for number, row in enumerate(json.loads(out.read_text(encoding="utf-8"))["rows"]):
        name = ", ".join(str(row[key]) for key in ("model", "way", "dtype", "batch") if key in row) or f"row {number}"
        yield Figure("peers", name, float(row.get("regions_per_s") or 0.0), "regions/s", detail=row)

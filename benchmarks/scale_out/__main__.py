"""`python -m benchmarks.scale_out`: the plain service beside one and two replicas on Ray Serve, in one run.

One after another and back again (plain, 1, 2, 2, 1, plain), because a shared machine's speed varies. One thread in
every process. Then two replicas when one is killed, when the model is replaced and when their number follows the load;
and the plain service of this commit beside that of another (`--against`), both there at once and asked in turn. Writes
results/scale_out.json after every part; its member `simulation` is what `benchmarks.scaling` is checked against.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.attacks.served import ROOT
from benchmarks.scale_out import batches
from benchmarks.scale_out.load import load
from benchmarks.scale_out.phases import killed, measured, scaled, updated
from benchmarks.scale_out.processes import adopt_orphans, await_end
from benchmarks.scale_out.served import ONE, PLAIN, TWO, Served, System
from benchmarks.scale_out.simulation import simulation
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).resolve().parents[1] / "results" / "scale_out.json"
BEFORE = "c0d3ca4"  # the last commit without engine ray
PROCESSES = 5  # that compute in the larger system: two replicas, two image workers, the server process
PARTS = ("systems", "kill", "update", "scale", "against", "simulation")
ELASTIC = System(
    "ray, 1 to 2 replicas", 1, 2, {"regions_per_replica": 16, "upscale_delay_s": 2, "downscale_delay_s": 5}
)


def systems(seconds: float, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Each system once a round, in turn, there and back."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number in range(rounds):
        for system in (PLAIN, ONE, TWO) if number % 2 == 0 else (TWO, ONE, PLAIN):
            with Served(system) as served:
                row = measured(served, seconds)
                row["exit_code"], row["end_s"] = served.terminate()
            row["processes_left"] = await_end(15)
            found[system.name].append(row)
            print(f"{system.name}: {row['saturated']['regions_per_s']} regions/s", flush=True)
    return dict(found)


def ratios(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Of each system to the plain service: medians over the rounds of ratios within one."""
    rows = {}
    for name, rounds in found.items():
        pairs = list(zip(rounds, found[PLAIN.name], strict=True))
        rows[name] = {
            "saturated": _median(
                [one["saturated"]["regions_per_s"] / two["saturated"]["regions_per_s"] for one, two in pairs]
            ),
            **{
                f"alone, {regions} region(s), {key} more": _median(
                    [one["alone"][regions][key] - two["alone"][regions][key] for one, two in pairs]
                )
                for regions in ("1", "8")
                for key in ("p50_ms", "p99_ms")
            },
        }
    return rows


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def against(commit: str, seconds: float, rounds: int) -> dict[str, Any]:
    """The plain service of this checkout over that of another commit."""
    folder = Path(tempfile.mkdtemp(prefix="before"))
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--detach", "--force", str(folder / "c"), commit], check=True, capture_output=True)
    try:
        with Served(PLAIN) as now, Served(PLAIN, checkout=folder / "c") as before:
            both = {"now": now, "before": before}
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in both}
            for number in range(rounds + 1):  # the first warms
                for name in both if number % 2 else reversed(both):
                    spent = both[name].cpu_s()
                    many = load(both[name], 4, 8, seconds, number)
                    core_ms = 1e3 * (both[name].cpu_s() - spent) / (8 * max(1, len(many.statuses) - many.failed))
                    lone = load(both[name], 1, 1, seconds / 2, number)
                    figures = {"regions_per_s": many.regions_per_s, "core_ms": core_ms, "lone_p50_ms": lone.ms(50)}
                    rows[name].append({key: round(value, 2) for key, value in figures.items()})
    finally:
        subprocess.run([*git, "remove", "--force", str(folder / "c")], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    pairs = list(zip(rows["now"][1:], rows["before"][1:], strict=True))
    names = ("regions_per_s", "core_ms", "lone_p50_ms")
    return {
        "commit": commit,
        "rounds": rows,
        "now_over_before": {name: _median([one[name] / two[name] for one, two in pairs]) for name in names},
    }


def two_replicas(seconds: float, parts: list[str]) -> dict[str, Any]:
    """Two replicas under load, with what happens to them."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(ROOT / "model" / "embedded", Path(name) / "copy")
        with Served(TWO, models_dir=Path(name)) as served:
            if "kill" in parts:
                found["kill"] = killed(served, 4 * seconds)
            if "update" in parts:
                found["update"] = updated(served, 8 * seconds, "copy")
            served.terminate()
    await_end(15)
    return found


def elastic(seconds: float) -> dict[str, Any]:
    """One replica that becomes two under load, and one again."""
    with Served(ELASTIC) as served:
        found = scaled(served, 12 * seconds, 1, 2)
        served.terminate()
    await_end(15)
    return {**found, "settings": {**ELASTIC.of_engine, **ELASTIC.settings}}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a load; saturation lasts twice as long")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--against", default=BEFORE, metavar="COMMIT")
    parser.add_argument(
        "--only", help=f"parts of {', '.join(PARTS)}, separated by commas; the others stay as they were"
    )
    parser.add_argument("--json", type=Path, default=RESULT)
    given = parser.parse_args()
    parts = given.only.split(",") if given.only else list(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        raise SystemExit(f"scale_out: there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}.")
    adopt_orphans()
    report: dict[str, Any] = json.loads(given.json.read_text("utf-8")) if given.only and given.json.exists() else {}
    report |= provenance() | {"threads": 1}

    def keep(**more: Any) -> None:
        report.update(more)
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    if "systems" in parts:
        found = systems(given.seconds, given.rounds)
        keep(systems=found, ratios=ratios(found))
    if {"kill", "update"} & set(parts):
        keep(**two_replicas(given.seconds, parts))
    if "scale" in parts:
        keep(scale=elastic(given.seconds))
    if "against" in parts:
        keep(against=against(given.against, given.seconds, 2 * given.rounds))
    if "simulation" in parts:
        batch, crowded = batches.measured(), batches.measured(PROCESSES)
        keep(batches=batch, crowded=crowded, simulation=simulation(report["systems"], batch, crowded))
    for name in ("ratios", "kill", "update", "scale", "against", "simulation"):
        print(f"\n{name}: {json.dumps(report.get(name), indent=1)}")


if __name__ == "__main__":
    main()

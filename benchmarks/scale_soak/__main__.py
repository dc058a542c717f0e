"""`python -m benchmarks.scale_soak --minutes 60`: mixed traffic over two replicas on Ray Serve, a fault every minute.

A plain service says first what is right. Then clients that wait, leave, are in a hurry or send slowly ask two replicas,
while in turn a replica is killed, another one stopped for a while and for good, the disk filled, the service beset by
slow clients, its clock moved by an hour, and another model loaded. Every request has to get one answer, its own and the
right one. Prints a table, writes results/scale_soak.json after an hour, and exits with 1 where a promise was broken.
`--engine thread` puts the plain service in the place of the replicas, without the faults that it does not survive.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale_out.processes import adopt_orphans, await_end
from benchmarks.scale_out.served import PLAIN, Served, System
from benchmarks.scale_soak.faults import FAULTS, Injected, Scene, clock_environment, inject, possible, small_disk
from benchmarks.scale_soak.summary import broken, log_lines, summary
from benchmarks.scale_soak.traffic import Plan, read_records, write_expected
from benchmarks.scale_soak.watch import SHARED_MEMORY, left_in, watching
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).resolve().parents[1] / "results" / "scale_soak.json"
EMBEDDED = Path(__file__).resolve().parents[2] / "model" / "embedded"
DISK_MB = 768
STALL_S = 5.0  # device_stall_s of the run: a replica that says nothing for so long counts as stuck
EVERY_S = 60.0
WHOLE_MINUTES = 60.0
SPARE = "spare"
NOT_OF_ONE_PROCESS = ("kill", "stall", "long stall")


@dataclass(frozen=True)
class Options:
    """minutes: of traffic. rate: requests per second, of about 4 regions. every_s: from one fault to the next."""

    minutes: float
    rate: float
    replicas: int
    every_s: float
    faults: tuple[str, ...] | None
    seed: int


def system(options: Options, disk: Path | None, clock: dict[str, str]) -> System:
    """Two replicas with their scratch on the small disk and their clock in our hand."""
    scratch = {} if disk is None else {"TMPDIR": str(disk), "RAY_TMPDIR": str(disk)}
    settings = {"device_stall_s": STALL_S, "device_grace_s": 2}
    return System(f"{options.replicas} replicas", options.replicas, None, settings, {**scratch, **clock})


def run(options: Options, folder: Path) -> dict[str, Any]:
    """The whole; its report."""
    expected = folder / "expected.json"
    with Served(PLAIN) as plain:
        write_expected(plain.host, plain.port, expected)
        plain.terminate()
    models = folder / "models"
    shutil.copytree(EMBEDDED, models / SPARE)
    shared_before = set(left_in(SHARED_MEMORY))
    # Ray's sockets lie in its scratch, and a socket's path is 107 bytes at most.
    with small_disk(Path(tempfile.mkdtemp(prefix="sk")), DISK_MB) as disk:
        variables = clock_environment(folder / "clock")
        log = (disk or folder) / "service.log"
        with Served(system(options, disk, variables), log_file=log, models_dir=models) as served:
            clock = folder / "clock" if variables else None
            scene = Scene(served, max(1, options.replicas), disk, clock, 3 * STALL_S, SPARE)
            report = under_load(options, scene, folder, expected)
            code, took = served.terminate()
            left = await_end(15)
            text = served.log()
        scratch = [name for name in left_in(disk or folder) if name not in ("service.log", "ballast")]
    records, faults = read_records(folder / "records.jsonl"), report.pop("injected")
    report["log"] = log_lines(text, records, faults)
    report["end"] = {
        "exit_code": code,
        "seconds": round(took, 1),
        "processes_left": left,
        "scratch_left": scratch if disk else [],
        "shared_memory_left": shared_files_left(shared_before),
    }
    (folder / "service.log").write_text(text, encoding="utf-8") if disk else None
    return report


def shared_files_left(before: set[str]) -> list[str]:
    """Names of new files of /dev/shm, which other programs may have made too; without libfaketime's own."""
    return [name for name in left_in(SHARED_MEMORY) if name not in before and not name.startswith("faketime_")]


def under_load(options: Options, scene: Scene, folder: Path, expected: Path) -> dict[str, Any]:
    """Traffic and faults; what came of them."""
    seconds, out = options.minutes * 60, folder / "records.jsonl"
    plan = Plan(scene.served.host, scene.served.port, options.rate, seconds, str(expected), options.seed)
    (folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.scale_soak.traffic", str(folder / "plan.json"), str(out)]
    traffic = subprocess.Popen(command)
    ours, began = [traffic.pid], time.monotonic()
    scene.ours.extend(ours)
    with watching(scene.served.edge, ours, scene.disk) as watch:
        injected = inject_in_turn(options, scene, began)
        if traffic.wait(seconds + 300):
            raise SystemExit("scale_soak: the traffic failed; see its message above.")
    cpu = os.times()
    faults = [{"minute": round((each.began - injected[0].began) / 60), **asdict(each)} for each in injected]
    return {
        "injected": injected,
        "start_s": round(scene.served.start_s, 1),
        **summary(read_records(out), injected, watch.seen),
        "generator_core_s": round(cpu.children_user + cpu.children_system, 1),
        "faults": faults,
    }


def inject_in_turn(options: Options, scene: Scene, began: float) -> list[Injected]:
    """A fault every `every_s`, the first after half of that, until the traffic is about to end."""
    names: Sequence[str] = options.faults or possible(scene)
    if left_out := [name for name in FAULTS if name not in names]:
        print(f"left out: {', '.join(left_out)}", flush=True)
    if not options.replicas:
        names = [name for name in names if name not in NOT_OF_ONE_PROCESS]
    done: list[Injected] = []
    slot = 0
    while True:
        slot = max(slot, round((time.monotonic() - began) / options.every_s))  # some take longer than a slot
        due = began + (slot + 0.5) * options.every_s
        if due + 0.5 * options.every_s > began + options.minutes * 60 + 1:
            return done
        slot += 1
        time.sleep(max(0.0, due - time.monotonic()))
        done.append(inject(names[len(done) % len(names)], scene))
        last = done[-1]
        minute = (time.monotonic() - began) / 60
        print(f"{minute:5.1f} min  {last.fault}: recovered after {last.recovered_s} s; {last.notes}", flush=True)


def table(report: dict[str, Any]) -> str:
    """Rows by fault."""
    lines = [
        "| under way in | times | requests | answered | refused, late, left | broken | longest, s | recovered, s |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, row in report["by_fault"].items():
        good = row.get("right", 0) + row.get("close", 0)
        excused = "{}, {}, {}".format(*(row.get(each, 0) for each in ("refused", "late", "left")))
        bad = row["requests"] - good - sum(row.get(each, 0) for each in ("refused", "late", "left"))
        recovered = [each for each in row["recovered_s"] if each is not None]
        longest = row["latency_s"].get("longest", "")
        back = max(recovered, default="")
        lines.append(
            f"| {name} | {row['times']} | {row['requests']} | {good} | {excused} | {bad} | {longest} | {back} |"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.2, help="requests per second (default 1.2)")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--engine", choices=("ray", "thread"), default="ray")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds from one fault to the next (default 60)")
    parser.add_argument("--faults", help="only these, separated by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep records and log, in a folder that is printed")
    parser.add_argument("--json", type=Path, help="where to write the report; of an hour by default to results/")
    given = parser.parse_args()
    names = tuple(given.faults.split(",")) if given.faults else None
    replicas = given.replicas if given.engine == "ray" else 0
    options = Options(given.minutes, given.rate, replicas, given.every, names, given.seed)
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    where = provenance()
    try:
        report = {**where, "options": asdict(options), **run(options, folder)}
    finally:
        print(f"records and log: {folder}") if given.keep else shutil.rmtree(folder, ignore_errors=True)
    report["broken"] = broken(report, options.minutes >= WHOLE_MINUTES / 2)
    if path := given.json or (RESULT if options.minutes >= WHOLE_MINUTES else None):
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    said = "; ".join(report["broken"]) or "nothing lost, doubled or wrong"
    print(f"\n{report['requests']} requests, {report['regions']} regions, {len(report['faults'])} faults: {said}")
    sys.exit(bool(report["broken"]))


if __name__ == "__main__":
    main()

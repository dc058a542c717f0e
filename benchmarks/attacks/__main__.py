"""`python -m benchmarks.attacks [NAME...]` attacks a service of this checkout, prints `ok` or `FAULT` for each case
with its figures, and writes results/attacks.json; the exit code is 1 where there was a fault.

All of them take about twenty minutes. Results hold for one run on one machine; CPU seconds, memory and counts do not
depend on what else it does, waiting times do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.attacks.endings import signals
from benchmarks.attacks.event_loop import json_on_the_loop, openapi, worst_legal_files
from benchmarks.attacks.fairness import many_regions, unfair_image_work
from benchmarks.attacks.findings import Finding
from benchmarks.attacks.http_edges import http_edges
from benchmarks.attacks.image_cost import image_cost, malformed_images
from benchmarks.attacks.resources import fetched_bytes, file_descriptors, metrics_connections, unread_log
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parents[1] / "results" / "attacks.json"

ATTACKS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "image-cost": image_cost,
    "malformed-images": malformed_images,
    "unfair-image-work": unfair_image_work,
    "many-regions": many_regions,
    "worst-legal-files": worst_legal_files,
    "json-on-the-loop": json_on_the_loop,
    "openapi": openapi,
    "unread-log": unread_log,
    "file-descriptors": file_descriptors,
    "metrics-connections": metrics_connections,
    "fetched-bytes": fetched_bytes,
    "signals": signals,
    "http-edges": http_edges,
}


def run(names: Sequence[str], images: str = "") -> dict[str, Any]:
    """Run attacks and print each finding as it comes. images: a part of the names of `image-cost`'s images."""
    found: dict[str, list[dict[str, Any]]] = {}
    seconds: dict[str, float] = {}
    for name in names:
        began = time.monotonic()
        found[name] = []
        for finding in image_cost(images) if name == "image-cost" else ATTACKS[name]():
            print(f"{'ok   ' if finding.ok else 'FAULT'} {name}: {finding.case}: {finding.text}", flush=True)
            found[name].append(asdict(finding))
        seconds[name] = round(time.monotonic() - began, 1)
    cases = [each for findings in found.values() for each in findings]
    faults = sum(not each["ok"] for each in cases)
    return {"cases": len(cases), "faults": faults, "seconds": seconds, "attacks": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=(__doc__ or "").split("\n\n")[0].replace("`", "")
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"[all of them] {', '.join(ATTACKS)}")
    parser.add_argument(
        "--images", default="", metavar="PART", help="for image-cost: only images whose name contains PART"
    )
    parser.add_argument("--out", type=Path, help="[benchmarks/results/attacks.json where all of them run, else none]")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in ATTACKS]:
        parser.error(f"unknown attack {unknown[0]}; there are {', '.join(ATTACKS)}.")
    report = run(given.names or list(ATTACKS), given.images)
    out = given.out or (None if given.names or given.images else RESULT)
    if out is not None:
        out.write_text(json.dumps({**provenance(), **report}, indent=1) + "\n", encoding="utf-8")
    print(f"{report['cases']} cases, {report['faults']} faults")
    sys.exit(report["faults"] > 0)


if __name__ == "__main__":
    main()

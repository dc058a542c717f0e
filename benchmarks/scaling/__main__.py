"""`python -m benchmarks.scaling` simulates the service at 1 to 1,000 GPUs, in about a minute, and writes
results/scaling.json and the pictures of docs/scaling.md.

With --regions-per-second N it answers how many GPUs, edges and Gbit/s that takes instead, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.scaling import pictures, reality, studies
from benchmarks.scaling.costs import RESULTS, Costs, MissingFigures, gpu, gpu_files, gpu_source, load
from benchmarks.scaling.sizing import CELL_GPUS, Prices, needed
from benchmarks.scaling.traffic import WEB, Mix
from dynrefer.workbench.profiling.machine import provenance

RESULT = RESULTS / "scaling.json"
IMAGES = Path(__file__).parents[2] / "docs" / "images"


def report(given: argparse.Namespace, costs: Costs, prices: Prices) -> dict[str, Any]:
    """Everything."""
    found: dict[str, Any] = {
        **provenance(),
        "card": costs.device.name,
        "card_rates": dict(costs.device.rate.points if costs.device.rate else ()),
        "card_rates_are": gpu_source(given.gpu, given.tasks),
        "p99_ms": given.p99_ms,
        "prices": asdict(prices),
        "edge_cores": given.edge_cores,
        "mix": asdict(costs.mix),
        "per_region": {
            "image_work_core_ms": round(costs.image_s * 1e3, 3),
            "edge_process_core_ms": round(costs.loop_s(CELL_GPUS) * 1e3, 3),
            "view_bytes": costs.view_bytes,
            "bytes_in": round(costs.request_bytes / costs.mix.regions),
        },
        "full_at": studies.parts(costs, given.edge_cores),
        "ways": studies.ways(costs, given.edge_cores, given.p99_ms, prices),
        "changes": studies.changes(costs, given.edge_cores, given.p99_ms, prices),
        "events": studies.events(costs, given.edge_cores),
        "routers": studies.routers(costs),
    }
    compared = [*reality.two_replicas(), *reality.served_card(given.gpu)]
    found["reality"] = [each.row() for each in compared]
    print(reality.table(compared))
    if not reality.SCALE_OUT.is_file():
        print("scale_out.json is not there: two replicas were not compared.", file=sys.stderr)
    return found


def ways_table(rows: Sequence[dict[str, Any]]) -> str:
    """For the terminal and docs/scaling.md."""
    lines = [
        "| GPUs | way | edges | regions/s | of the devices | p50, p99 ms | full first | $ per million |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["why_not"]:
            lines.append(f"| {row['gpus']} | {row['way']} | | cannot be: {row['why_not']} | | | | |")
            continue
        numbers = f"{row['edges']} | {row['regions_per_s']:,.0f} | {row['share']:.0%} | {_ms(row)}"
        cost = "" if row["dollars_per_million"] is None else f"{row['dollars_per_million']:.2f}"
        lines.append(f"| {row['gpus']:,} | {row['way']} | {numbers} | {row['first']} | {cost} |")
    return "\n".join(lines)


def _ms(row: dict[str, Any]) -> str:
    return "" if row["p50_ms"] is None else f"{row['p50_ms']:.0f}, {row['p99_ms']:.0f}"


def answer(given: argparse.Namespace, costs: Costs, prices: Prices) -> str:
    """How much so many regions per second take."""
    found = needed(given.regions_per_second, costs, given.edge_cores, given.p99_ms, prices)
    return "\n".join(
        (
            f"{found.regions_per_s:g} regions/s on {costs.device.name}, p99 within {given.p99_ms:g} ms, "
            f"{costs.mix.regions:g} regions a request:",
            f"  GPUs     {found.gpus} (in {found.cells} cells of at most {CELL_GPUS}); full first: {found.first}",
            f"  edges    {found.edges}, {found.edge_cores} cores",
            f"  Gbit/s   {found.gbit_in} in, {found.gbit_views} of views from edges to GPUs",
            f"  price    ${found.dollars_an_hour} an hour, ${found.dollars_per_million} per million regions "
            f"(GPU ${prices.gpu_hour}, core ${prices.core_hour} an hour)",
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n\n")[0])
    known = ", ".join(gpu_files())
    parser.add_argument("--regions-per-second", type=float, metavar="N", help="say what that takes, and write nothing")
    parser.add_argument("--gpu", default="h200", help=f"a measured card: {known} [%(default)s]")
    parser.add_argument("--tasks", choices=("all", "tags"), default="all", help="of every region [%(default)s]")
    parser.add_argument("--regions-per-request", type=float, default=WEB.regions, help="on average [%(default)s]")
    parser.add_argument("--p99-ms", type=float, default=1000.0, help="99 of 100 answers within [%(default)s]")
    parser.add_argument("--edge-cores", type=int, default=8, help="of an edge's machine [%(default)s]")
    parser.add_argument("--gpu-price", type=float, default=Prices.gpu_hour, help="$ an hour [%(default)s]")
    parser.add_argument(
        "--core-price", type=float, default=Prices.core_hour, help="$ an hour, of an edge's core [%(default)s]"
    )
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/scaling.json]")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder for the pictures [docs/images]")
    given = parser.parse_args(arguments)
    for name in ("p99_ms", "gpu_price", "core_price"):
        if not 0 <= getattr(given, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} must be a number from 0 up.")
    if given.edge_cores < 3:
        parser.error("--edge-cores must be at least 3: one for the edge's process, one for Ray, one for images.")
    prices = Prices(given.gpu_price, given.core_price)
    try:
        costs = load(gpu(given.gpu, given.tasks), Mix(WEB.sizes, given.regions_per_request))
        if given.regions_per_second is not None:
            print(answer(given, costs, prices))
            return
    except (MissingFigures, ValueError) as error:
        parser.error(str(error))
    found = report(given, costs, prices)
    print(ways_table(found["ways"]))
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    pictures.draw_ways(found["ways"], given.images / "scaling-gpus.png", given.p99_ms, costs.device.name)
    edges = studies.ROUTER_EDGES
    what = f"Latency by router: {studies.ROUTER_GPUS} GPUs, {edges} edges"
    rows = [row for row in found["routers"] if row["edges"] == edges]
    pictures.draw_routers(rows, given.images / "scaling-routers.png", what)


if __name__ == "__main__":
    main()

"""Reports as text, for people."""

from typing import Any

import torch

from dynrefer.model.networks.dynrefer.config import PRESETS
from dynrefer.workbench.profiling.machine import copy_gb_s, gemm_gflops, provenance
from dynrefer.workbench.profiling.operation_counts import Ceilings, count_costs, floor_seconds
from dynrefer.workbench.profiling.workload import Workload


def heading(report: dict[str, Any]) -> str:
    """Command, machine, threads, commit, and the rates where the report has them."""
    machine = f"{report['processor']}, {report['device']}, {report['threads']} threads"
    line = f"`{report['command']}`, {machine}, commit {report['commit']}"
    if "gemm_gflops" in report:
        rates = ", ".join(f"{name} {rate:g}" for name, rate in report["gemm_gflops"].items())
        line += f"; products {rates} GFLOP/s, copy {report['copy_gb_s']:g} GB/s"
    return line


def model_table(report: dict[str, Any]) -> str:
    """Of `measure_model`."""
    head = (
        "| dtype | regions | tasks | s | regions/s | GFLOP/s | floor s | efficiency | by oneDNN's rate | x official "
        "| stages, s |"
    )
    lines = [heading(report), "", head, "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        stages = ", ".join(f"{part} {seconds:.3f}" for part, seconds in row["stages"].items() if seconds >= 5e-4)
        more = f"; {row['speedup']} x the plain way" if "speedup" in row else ""
        lines.append(
            f"| {row['dtype']} | {row['regions']} | {row['tasks']} | {row['seconds']:.3f} | {row['regions_per_s']:.2f} "
            f"| {row['gemm_gflops'][row['dtype']]:.0f} | {row['floor_seconds']:.3f} | {row['efficiency']:.2f} "
            f"| {row.get('efficiency_onednn', '')} "
            f"| {row.get('over_official', '')} | {stages}{more} |"
        )
    return "\n".join([*lines, "", *map(_gaps, report["rows"])])


def _gaps(row: dict[str, Any]) -> str:
    """The two stages that lie farthest above their floor."""
    above = {part: row["stages"][part] - floor for part, floor in row["floor_stages"].items()}
    worst = sorted(above, key=lambda part: -above[part])[:2]
    named = (f"{part} {row['stages'][part]:.3f} s over {row['floor_stages'][part]:.3f} s" for part in worst)
    return f"{row['dtype']}, {row['regions']} regions, {row['tasks']}: largest gaps {', '.join(named)}"


def count_presets(regions: int, tokens: int, beams: int) -> tuple[dict[str, Any], str]:
    """Counts of all presets in float32, with the floor from rates measured now: report and table."""
    work = Workload(tokens=tokens, beams=beams)
    gemm, copy = gemm_gflops(), copy_gb_s()
    ceilings = Ceilings(gemm * 1e9, gemm * 1e9, copy * 1e9)
    report: dict[str, Any] = {
        **provenance(),
        "gemm_gflops": {"float32": round(gemm, 1)},
        "copy_gb_s": round(copy, 1),
        "regions": regions,
        "tokens": tokens,
        "beams": beams,
        "presets": {},
    }
    lines = [heading(report), "", "| preset | stage | GFLOP | MB | floor ms | bound by |", "|---|---|---|---|---|---|"]
    for name in PRESETS:
        stages = {}
        for part, cost in count_costs(name, work, regions, torch.float32).items():
            floor = floor_seconds(part, cost, ceilings)
            bound = "products" if cost.operations / ceilings.product >= cost.bytes / ceilings.copy else "bytes"
            stages[part] = {
                "gflop": round(cost.operations / 1e9, 3),
                "mb": round(cost.bytes / 1e6, 1),
                "floor_ms": round(floor * 1e3, 2),
                "bound": bound,
            }
            counted = f"{cost.operations / 1e9:.2f} | {cost.bytes / 1e6:.1f}"
            lines.append(f"| {name} | {part} | {counted} | {floor * 1e3:.2f} | {bound} |")
        report["presets"][name] = stages
    return report, "\n".join(lines)

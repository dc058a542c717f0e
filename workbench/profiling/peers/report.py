"""The comparison as a whole: a process per model, rows kept as they are measured, ratios of models of equal size."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dynrefer.model.errors import ModelError
from dynrefer.workbench.profiling.machine import heading, provenance
from dynrefer.workbench.profiling.peers.measure import ModelPlan, encode_plan
from dynrefer.workbench.profiling.peers.models import ALL, CAPTION
from dynrefer.workbench.profiling.peers.published import MODELS

EQUAL = 2.0  # models are of equal size if neither has more than this many times the other's parameters
KEY = ("model", "dtype", "way", "batch")
Row = dict[str, Any]


class PeersError(ModelError):
    """A model could not be measured, or a report cannot be continued."""


def measure_peers(
    plans: Sequence[ModelPlan], out: Path | None, *, append: bool, log: Callable[[str], None]
) -> dict[str, Any]:
    """Measure each plan's model in a process of its own. out: rewritten after every row; append: its rows are kept, but
    those that are measured anew. Returns the report, JSON-ready. A model that fails leaves the rows of the others.

    Raises `PeersError` if a report of another machine is to be continued, and after the last model if one failed.
    """
    report: dict[str, Any] = {**provenance(plans[0].device), "rows": [], "ratios": []}
    if append and out is not None and out.exists():
        report = _continued(report, json.loads(out.read_text(encoding="utf-8")), out)
    failed = []
    for plan in plans:
        try:
            for row in _measured(plan):
                row |= {name: report[name] for name in ("commit", "threads")}
                report["rows"] = [*(each for each in report["rows"] if _key(each) != _key(row)), row]
                report["ratios"] = ratios(report["rows"])
                if out is not None:
                    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
                log(f"{row['model']}, batch {row['batch']}, {row['way']}: {row['regions_per_s']:.3f} regions/s")
        except PeersError as error:
            log(str(error))
            failed.append(plan.name)
    if failed:
        raise PeersError(f"{', '.join(failed)} could not be measured; the rows of the others are kept.")
    return report


def _continued(report: dict[str, Any], earlier: dict[str, Any], out: Path) -> dict[str, Any]:
    for name in ("processor", "device"):
        if earlier[name] != report[name]:
            raise PeersError(f"{out} was measured on {earlier[name]}, not on {report[name]}; write to another file.")
    return {**report, "rows": earlier["rows"], "ratios": earlier["ratios"]}


def _measured(plan: ModelPlan) -> Iterator[Row]:
    command = [sys.executable, "-m", "dynrefer.workbench.profiling.peers.measure", encode_plan(plan)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:  # an interrupt too: no model runs on without its report
            process.kill()
            raise
    if process.returncode:
        raise PeersError(f"{plan.name}: its process ended with code {process.returncode}")


def ratios(rows: Iterable[Row]) -> list[Row]:
    """Per peer: the one of ours that is nearest in size, and how many times its regions per second, each at its best.

    "equal": whether their sizes differ by at most 2 x. "caption", "all": with the caption alone, with all outputs, over
    the peer at its best; "all_over_default": over the peer as documented, a region a pass.
    """
    rows = list(rows)
    found = []
    for name in dict.fromkeys(row["model"] for row in rows if not _ours(row)):
        theirs = [row for row in rows if row["model"] == name]
        size = theirs[0]["parameters"]
        ours = [row for row in rows if _ours(row)]
        if not ours:
            continue
        nearest = min(ours, key=lambda row: max(row["parameters"] / size, size / row["parameters"]))
        times = nearest["parameters"] / size
        best = {
            way: _best(row for row in ours if row["model"] == nearest["model"] and row["way"] == way)
            for way in (CAPTION, ALL)
        }
        peer, default = _best(theirs), _best(row for row in theirs if row["batch"] == 1)
        found.append(
            {
                "peer": name,
                "ours": nearest["model"],
                "size_ratio": round(times, 2),
                "equal": 1 / EQUAL <= times <= EQUAL,
                "caption": _over(best[CAPTION], peer),
                "all": _over(best[ALL], peer),
                "all_over_default": _over(best[ALL], default),
            }
        )
    return found


def _ours(row: Row) -> bool:
    return MODELS[row["model"]].family == "dynrefer"


def _best(rows: Iterable[Row]) -> float | None:
    return max((row["regions_per_s"] for row in rows), default=None)


def _over(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 2) if ours and theirs else None


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def peers_table(report: dict[str, Any]) -> str:
    """The report as two Markdown tables."""
    lines = [
        heading(report),
        "",
        "| model | parameters | dtype | way | batch | regions/s | seconds a pass | memory, GB |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in report["rows"]:
        lines.append(
            f"| {row['title']} | {row['parameters'] / 1e9:.3f} B | {row['dtype']} | {row['way']} | {row['batch']} "
            f"| {row['regions_per_s']:.3f} | {row['seconds_a_pass']:.2f} | {row['peak_memory_gb']:.1f} |"
        )
    lines += ["", "| peer | beside a caption | ours, nearest in size | caption | all outputs | over a region a pass |"]
    lines.append("|---|---|---|---|---|---|")
    for each in report["ratios"]:
        size = f"{each['size_ratio']} x its size" + ("" if each["equal"] else ": not equal")
        numbers = " | ".join(_times(each[name]) for name in ("caption", "all", "all_over_default"))
        answers = MODELS[each["peer"]].answers
        lines.append(f"| {MODELS[each['peer']].title} | {answers} | {MODELS[each['ours']].title}, {size} | {numbers} |")
    return "\n".join(lines)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio} x"

"""The files that `--out DIR` writes: the result as JSON and as Markdown, and its plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.metrics.curves import Curves
from dynrefer.workbench.evaluation.photographs import PhotographResult
from dynrefer.workbench.evaluation.report.described_boxes import boxes_table
from dynrefer.workbench.evaluation.report.plots import (
    plot_decisions,
    plot_over_t,
    plot_policies,
    plot_precision_recall,
    plot_reliability,
    save,
)
from dynrefer.workbench.evaluation.report.tables import grid_table, markdown_table
from dynrefer.workbench.evaluation.view_study import ViewStudy

_ENDINGS = (
    *(".json", ".md", "_precision_recall.png", "_calibration.png"),
    *("_decisions.png", "_over_t.png", "_policies.png"),
)


def files_of(out: Path, name: str) -> list[Path]:
    """The files that a result of this name may have in `out`."""
    return [out / f"{name}{ending}" for ending in _ENDINGS]


def write_result(
    out: Path,
    name: str,
    result: Mapping[str, Any],
    curves: Curves,
    *,
    page: str | None = None,
    more_plots: Mapping[str, Figure] | None = None,
) -> list[Path]:
    """Write NAME.json (with curves), NAME.md and a plot per kind of curve; returns the paths. Raises `DataError`.

    page: the Markdown above the plots; None: the result as a table. more_plots: kind -> figure, shown after the curves.
    """
    _write(out / f"{name}.json", json.dumps({**result, "curves": curves.to_json()}, indent=1) + "\n")
    plots: dict[str, Figure] = {}
    if curves.precision_recall:
        plots["precision_recall"] = plot_precision_recall(curves.precision_recall, name)
    if curves.reliability:
        plots["calibration"] = plot_reliability(curves.reliability, name)
    plots |= more_plots or {}
    for kind, figure in plots.items():
        save(figure, out / f"{name}_{kind}.png")
    links = "".join(f"\n![{kind.replace('_', ' and ')}]({name}_{kind}.png)\n" for kind in plots)
    _write(out / f"{name}.md", f"# {name}\n\n{markdown_table(result) if page is None else page}{links}")
    return [out / f"{name}.json", out / f"{name}.md", *(out / f"{name}_{kind}.png" for kind in plots)]


def write_photographs(out: Path, found: PhotographResult) -> list[Path]:
    """Write photographs.json, photographs.md with a row per box, and plots; returns the paths. Raises `DataError`."""
    counted = ("parents", "other_words")
    page = markdown_table({name: value for name, value in found.result.items() if name not in ("by_split", *counted)})
    for name in counted:
        page += f"- {name}: {', '.join(f'{word} {count}' for word, count in found.result[name].items()) or 'none'}\n"
    if found.splits:
        page += "\n" + grid_table(found.splits, "split")
    page += "\n" + boxes_table(found.boxes)
    gate = {"decisions": plot_decisions(found.gate, "photographs and drawings")} if found.gate else {}
    return write_result(out, "photographs", found.result, found.curves, page=page, more_plots=gate)


def write_study(out: Path, name: str, result: Mapping[str, Any], study: ViewStudy) -> list[Path]:
    """Write NAME.json, NAME.md, NAME_over_t.png and, where policies were compared, NAME_policies.png; returns the
    paths. Raises `DataError`."""
    _write(out / f"{name}.json", json.dumps(result, indent=1) + "\n")
    save(plot_over_t(study, "quality over t"), out / f"{name}_over_t.png")
    links, endings = f"\n![quality over t]({name}_over_t.png)\n", [".json", ".md", "_over_t.png"]
    if study.policies:
        save(plot_policies(study, "policies"), out / f"{name}_policies.png")
        links += f"\n![policies]({name}_policies.png)\n"
        endings.append("_policies.png")
    about = "".join(f"- {key}: {result[key]}\n" for key in result if key not in ("over_t", "policies"))
    _write(out / f"{name}.md", f"# {name}\n\n{study.markdown()}\n{about}{links}")
    return [out / f"{name}{ending}" for ending in endings]


def prepare_folder(out: Path) -> Path:
    """Create the folder if it is missing and check that it is writable, before any work. Raises `DataError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise DataError(f"cannot write into --out {out}: {error.strerror}.") from error
    return out


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from error

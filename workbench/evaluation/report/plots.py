"""The plots of a report. Each function returns a matplotlib figure, which `save` writes.

Made without pyplot: no global state, no display.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.metrics.curves import Curve, Reliability
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate
from dynrefer.workbench.evaluation.view_study import ONE_VIEW, Metrics, ViewStudy

# Safe for colour-blind readers (Okabe and Ito); in print the markers tell them apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_TITLES = {
    "class": "category: accuracy",
    "attribute_map": "attributes: mAP",
    "colour_map": "colours: mAP",
    "tag_f1": "tags: micro F1",
    "relation": "caption: relation correct",
    "cider": "caption: CIDEr-D",
    "top1": "first name right",
    "top5": "one of five names right",
    "caption_names_it": "caption: names it",
    "caption_true": "caption: name or broader word true",
}


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG. Raises `DataError` if it cannot be written."""
    try:
        figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from error


def plot_precision_recall(curves: Mapping[str, Curve], title: str) -> Figure:
    """Precision over recall, one line per curve."""
    figure = Figure(figsize=(5, 4))
    axes = figure.add_subplot()
    for place, (name, curve) in enumerate(curves.items()):
        axes.plot(curve.recall, curve.precision, color=_colour(place), label=name)
    _frame(axes, title, "recall", "precision", unit_square=True)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    return figure


def plot_reliability(bins: Mapping[str, Reliability], title: str) -> Figure:
    """Reliability diagram: observed frequency over predicted probability; below it the number of values per bin."""
    figure = Figure(figsize=(5, 5.4))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot((0, 1), (0, 1), color="#999999", linestyle="--", linewidth=1, label="perfect calibration")
    for place, (name, each) in enumerate(bins.items()):
        look: dict[str, Any] = {
            "marker": _MARKERS[place % 7],
            "color": _colour(place),
            "markersize": 4,
            "linewidth": 1.2,
        }
        spread = np.sqrt(each.observed * (1 - each.observed) / each.count)
        upper.errorbar(
            each.predicted, each.observed, spread, capsize=2, label=f"{name}, error {each.error:.3f}", **look
        )
        lower.plot(each.predicted, each.count, **look)
    _frame(upper, title, "", "observed frequency", unit_square=True)
    upper.legend(loc="lower right", frameon=False, fontsize=8)
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.8)
    lower.yaxis.set_minor_formatter(NullFormatter())
    _frame(lower, "", "predicted probability", "values")
    return figure


def plot_over_t(study: ViewStudy, title: str) -> Figure:
    """One panel per metric: its value with a second view at t, with standard errors; dashed: one view only."""
    names = _names(study.over_t.values())
    figure, panels = _panels(len(names), title)
    ts = list(study.over_t)
    for axes, name in zip(panels, names, strict=False):
        found = [study.over_t[t][name] for t in ts]
        axes.axhline(found[0].value or 0.0, color="#999999", linestyle="--", linewidth=1)
        _line(axes, ts, found, 0, "")
        _frame(axes, _TITLES.get(name, name), "t of the second view", "")
    return figure


def plot_policies(study: ViewStudy, title: str) -> Figure:
    """One panel per metric: its value over the number of views, one line per policy."""
    names = _names(counts[count] for counts in study.policies.values() for count in counts)
    figure, panels = _panels(len(names), title)
    start = study.policies[ONE_VIEW][1]
    for axes, name in zip(panels, names, strict=False):
        for place, (policy, counts) in enumerate(study.policies.items()):
            if policy == ONE_VIEW:
                continue
            found = [start[name], *(counts[count][name] for count in counts)]
            aside = 0.05 * (place - 1 - (len(study.policies) - 2) / 2)  # so that error bars lie side by side
            _line(axes, [1, *(count + aside for count in counts)], found, place - 1, policy)
        axes.set_xticks(range(1, max(max(counts) for counts in study.policies.values()) + 1))
        _frame(axes, _TITLES.get(name, name), "views", "")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def plot_decisions(counts: Mapping[str, Mapping[str, int]], title: str) -> Figure:
    """What the model took regions for: a row per kind of region, a column per decision; shaded by the row's
    proportions, with the numbers in the cells."""
    columns = list(dict.fromkeys(decision for row in counts.values() for decision in row))
    numbers = np.array([[row.get(decision, 0) for decision in columns] for row in counts.values()])
    figure = Figure(figsize=(1.6 * len(columns) + 1.8, 0.9 * len(counts) + 1.2))
    axes = figure.add_subplot()
    shades = numbers / numbers.sum(axis=1, keepdims=True)
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        dark = shades[row, column] > 0.5
        axes.text(column, row, str(number), ha="center", va="center", color="white" if dark else "black", fontsize=10)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(counts)), list(counts))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("taken for", fontsize=9)
    axes.tick_params(labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    return figure


def _names(rows: Iterable[Metrics]) -> list[str]:
    """Names of the metrics that were measured, each once."""
    names: dict[str, None] = {}
    for metrics in rows:
        names |= dict.fromkeys(name for name, metric in metrics.items() if metric.value is not None)
    return list(names)


def _panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels


def _line(axes: Axes, xs: Sequence[float], found: Sequence[Estimate], place: int, label: str) -> None:
    values = [np.nan if estimate.value is None else estimate.value for estimate in found]
    errors = [0.0 if estimate.error is None else estimate.error for estimate in found]
    axes.errorbar(
        xs,
        values,
        errors,
        marker=_MARKERS[place % 7],
        markersize=4,
        color=_colour(place),
        capsize=2,
        linewidth=1.2,
        label=label,
    )


def _colour(place: int) -> str:
    return _COLOURS[place % len(_COLOURS)]


def _frame(axes: Axes, title: str, x: str, y: str, *, unit_square: bool = False) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if unit_square:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)

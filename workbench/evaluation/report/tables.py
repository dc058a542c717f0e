"""Metrics as JSON-ready data, as a text table and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate

_ERRORS = "standard_errors"
_NOTES = "notes"  # name of a metric -> why it was not measured
_MAX_PER_LINE = 8


def json_value(value: float | None) -> float | None:
    """Rounded to 4 digits; None for NaN, which JSON does not have."""
    return None if value is None or np.isnan(value) else round(float(value), 4)


def json_values(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """`json_value` of each."""
    return {name: json_value(value) for name, value in values.items()}


def json_metrics(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    """name -> value, and under "standard_errors" name -> standard error."""
    values = json_values({name: metric.value for name, metric in metrics.items()})
    errors = json_values({name: metric.error for name, metric in metrics.items()})
    return {**values, _ERRORS: errors}


def text_table(result: Mapping[str, Any]) -> str:
    """Metrics with their standard errors in columns, then everything else, one entry per line."""
    width = max(len(name) for name in result)
    lines = []
    for name, error in result.get(_ERRORS, {}).items():
        value = result[name]
        spread = "" if error is None else f"  ± {error:.3f}"
        shown = _not_measured(result, name) if value is None else f"{value:7.3f}{spread}"
        lines.append(f"{name:<{width}}  {shown}")
    lines += [f"{name:<{width}}  {_line(value)}" for name, value in _rest(result).items()]
    return "\n".join(lines)


def markdown_table(result: Mapping[str, Any]) -> str:
    """Metrics with their standard errors as a Markdown table, everything else as a list below it."""
    lines = ["| metric | value | standard error |", "|---|---|---|"]
    for name, error in result.get(_ERRORS, {}).items():
        value = result[name]
        shown = _not_measured(result, name) if value is None else f"{value:.4f}"
        lines.append(f"| {name} | {shown} | {'' if error is None else f'{error:.4f}'} |")
    lines += ["", *(f"- {name}: {_line(value)}" for name, value in _rest(result).items())]
    return "\n".join(lines) + "\n"


def grid_table(rows: Mapping[str, Mapping[str, Estimate]], corner: str) -> str:
    """A Markdown table of estimates, row name -> column name -> estimate; an empty cell where there is none."""
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | {' | '.join(_cell(cells.get(column, Estimate())) for column in columns)} |")
    return "\n".join(lines) + "\n"


def _cell(metric: Estimate) -> str:
    value, error = json_value(metric.value), json_value(metric.error)
    if value is None:
        return ""
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _not_measured(result: Mapping[str, Any], name: str) -> str:
    reason = result.get(_NOTES, {}).get(name)
    return f"not measured: {reason}" if reason else "not measured"


def _rest(result: Mapping[str, Any]) -> dict[str, Any]:
    errors = result.get(_ERRORS, {})
    return {name: value for name, value in result.items() if name not in (*errors, _ERRORS, _NOTES)}


def _line(value: object) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    if len(value) > _MAX_PER_LINE:
        return f"{len(value)} values, in the JSON"
    return ", ".join(f"{name} {each}" for name, each in value.items())

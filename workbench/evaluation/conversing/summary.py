"""Accuracies of answers, with standard errors over scenes: answers about one scene are no independent samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from dynrefer.workbench.evaluation.conversing.measuring import CONDITIONS, Row
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, bootstrap_error, bootstrap_weights
from dynrefer.workbench.scenes.questions.records import Kind

SMALL_SIDE = 24.0  # pixels of an object's longer side, beside an image's 160 to 320
MORE_THAN_FOUR = "count above four"
_COUNTS = {"Five.", "Six.", "Seven.", "Eight."}
Value = Callable[[Row], float | None]


def ratio(rows: Sequence[Row], hits: Value, of: Value = lambda row: 1.0) -> Estimate:
    """The sum of `hits` by the sum of `of`, over the rows where neither is None; resampled over scenes."""
    pairs = [(row.scene, hits(row), of(row)) for row in rows]
    known = [(scene, hit, count) for scene, hit, count in pairs if hit is not None and count is not None]
    if not sum(count for _, _, count in known):
        return Estimate()
    scenes = sorted({scene for scene, _, _ in known})
    sums = np.zeros((2, len(scenes)))
    for scene, hit, count in known:
        sums[:, scenes.index(scene)] += (hit, count)
    drawn = bootstrap_weights(len(scenes)) @ sums.T  # (B, 2)
    with np.errstate(invalid="ignore"):
        values = drawn[:, 0] / drawn[:, 1]
    return Estimate(float(sums[0].sum() / sums[1].sum()), bootstrap_error(values) if len(scenes) > 1 else None)


def accuracy(rows: Sequence[Row]) -> Estimate:
    """The part of the answers that are right."""
    return ratio(rows, lambda row: float(row.right))


def by_kind(rows: Sequence[Row]) -> dict[str, dict[str, Estimate]]:
    """Kind -> condition -> accuracy; over all kinds; without counts above four, as the target has it."""
    found: dict[str, dict[str, Estimate]] = {}
    chosen: dict[str, Callable[[Row], bool]] = {
        "all": lambda row: True,
        f"all but {MORE_THAN_FOUR}": lambda row: not _many(row),
        MORE_THAN_FOUR: _many,
        **{kind.value: (lambda row, kind=kind: row.kind is kind) for kind in Kind},
    }
    for name, fits in chosen.items():
        cells = {condition: accuracy([row for row in _of(rows, condition) if fits(row)]) for condition in CONDITIONS}
        if any(cell.value is not None for cell in cells.values()):
            found[name] = cells
    return found


def baselines(rows: Sequence[Row]) -> dict[str, dict[str, Estimate]]:
    """Kind -> model and baseline -> accuracy, on forms of training."""
    known = _of(rows, "training forms")
    found = {}
    for name, of in (("all", known), *((kind.value, [row for row in known if row.kind is kind]) for kind in Kind)):
        if of:
            found[name] = {
                "model": accuracy(of),
                "most frequent answer": ratio(of, lambda row: _number(row.question_only)),
                "blank image": ratio(of, lambda row: _number(row.blank)),
                "caption as answer": ratio(of, lambda row: _number(row.caption)),
            }
    return found


def by_pointing(rows: Sequence[Row]) -> dict[str, dict[str, Estimate]]:
    """What a question points with -> kind -> accuracy, over all conditions."""
    kinds = (Kind.NAME, Kind.COLOUR, Kind.SIZE, Kind.POSITION)
    forms = ("box", "point", "scribble", "words")
    chosen = {form: [row for row in rows if row.pointed == form] for form in forms}
    return {
        form: {kind.value: accuracy([row for row in of if row.kind is kind]) for kind in kinds}
        for form, of in chosen.items()
    }


def grounding(rows: Sequence[Row]) -> dict[str, Estimate]:
    """found: of the objects that right answers name, those with a box at IoU >= .5 under their name. fitting: of the
    boxes given, those that meet an object of the right answer. invented: of the objects that lists name, those that
    the scene has not. in raster order: of right lists."""
    return {
        "found": ratio(rows, lambda row: row.boxes.right, lambda row: row.boxes.wanted),
        "fitting": ratio(rows, lambda row: row.boxes.fitting, lambda row: row.boxes.given),
        "invented": ratio(rows, lambda row: row.invented, lambda row: row.named),
        "in raster order": ratio(rows, lambda row: _number(row.in_order)),
    }


def by_object_size(rows: Iterable[Row]) -> dict[str, dict[str, Estimate]]:
    """Size of the object -> condition -> accuracy; for rows of large images under several conditions."""
    listed = list(rows)
    conditions = list(dict.fromkeys(row.condition for row in listed))
    sizes: dict[str, Callable[[Row], bool]] = {
        f"under {SMALL_SIDE:g} px": lambda row: row.side is not None and row.side < SMALL_SIDE,
        f"{SMALL_SIDE:g} to {2 * SMALL_SIDE:g} px": lambda row: (
            row.side is not None and SMALL_SIDE <= row.side < 2 * SMALL_SIDE
        ),
        f"{2 * SMALL_SIDE:g} px and more": lambda row: row.side is not None and row.side >= 2 * SMALL_SIDE,
        "not about one object": lambda row: row.side is None,
    }
    return {
        name: {condition: accuracy([row for row in _of(listed, condition) if fits(row)]) for condition in conditions}
        for name, fits in sizes.items()
    }


def values(table: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """A table as JSON: row -> column -> [value, standard error], rounded; columns without a value are left out."""
    return {
        name: {column: _pair(cell) for column, cell in cells.items() if cell.value is not None}
        for name, cells in table.items()
    }


def _pair(cell: Estimate) -> list[float | None]:
    return [None if each is None else round(each, 4) for each in (cell.value, cell.error)]


def _of(rows: Sequence[Row], condition: str) -> list[Row]:
    return [row for row in rows if row.condition == condition]


def _many(row: Row) -> bool:
    return row.kind is Kind.COUNT and row.expected in _COUNTS


def _number(value: bool | None) -> float | None:
    return None if value is None else float(value)

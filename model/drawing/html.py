"""Results as HTML for notebooks: the image with its regions, and a table.

One piece without scripts, style sheets or requests; in the notebook's own colours, so that a dark one is legible too.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dynrefer.model.drawing.annotations import Annotation, annotation_of_found, figure, likely
from dynrefer.model.drawing.palette import mark_of
from dynrefer.model.drawing.regions import draw_regions
from dynrefer.model.errors import ImageError
from dynrefer.model.tasks import TASKS
from dynrefer.model.types import RegionDescription, Task

if TYPE_CHECKING:
    from dynrefer.model.finding import Findings, FoundRegion
    from dynrefer.model.preview import Preview

LONGEST = 1000  # pixels of the image's longer side
MOST_ROWS, MOST_LABELS = 100, 5
_QUALITY = 85  # of JPEG
_CELL = "text-align:left;vertical-align:top;padding:.4em 1em .4em 0;background:transparent;color:inherit;border:0"
_ROW = "background:transparent;border-top:1px solid rgba(128,128,128,.35)"
_WHOLE = "font:14px/1.45 system-ui,sans-serif;color:inherit"


def regions_html(
    annotations: Sequence[Annotation], described: Sequence[RegionDescription], preview: "Preview | None"
) -> str:
    """The image, and a row for each description. preview: of the image; None: the table alone."""
    tasks = [task.name for task in TASKS if any(task.name in each.results for each in described)]
    rows = [
        [_chip(index), *(_result(each.results.get(task), task) for task in tasks)]
        for index, each in enumerate(described[:MOST_ROWS])
    ]
    return _whole(annotations, preview, ["", *tasks], rows, len(described) - len(rows))


def description_html(described: RegionDescription) -> str:
    """A table of what is said of one region."""
    rows = [[html.escape(task), _result(result, task)] for task, result in described.results.items()]
    return f'<div style="{_WHOLE}">{_table([], rows)}</div>'


def findings_html(found: "Findings") -> str:
    """The image with what was found, a row for each region, and what is not there."""
    regions = found.regions
    tasks = [task.name for task in TASKS if any(_described(each, task.name) is not None for each in regions)]
    rows = [
        [
            _chip(index),
            _bar(each.phrase or each.label, each.probability),
            *(_result(_described(each, task), task) for task in tasks),
        ]
        for index, each in enumerate(regions[:MOST_ROWS])
    ]
    absent = [f"{_text(each.name)} {figure(each.probability)}" for each in found.absent]
    below = f'<p style="margin:.6em 0 0">not there: {", ".join(absent)}</p>' if absent else ""
    annotations = [annotation_of_found(each) for each in regions]
    return _whole(annotations, found.preview, ["", "found", *tasks], rows, len(regions) - len(rows), below)


def found_html(found: "FoundRegion") -> str:
    """A table of what is known of one region that was found."""
    described = {} if found.description is None else found.description.results
    rows = [["found", _bar(found.phrase or found.label, found.probability)]]
    rows += [[html.escape(task), _result(result, task)] for task, result in described.items()]
    return f'<div style="{_WHOLE}">{_table([], rows)}</div>'


def _whole(
    annotations: Sequence[Annotation],
    preview: "Preview | None",
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    left_out: int,
    below: str = "",
) -> str:
    if not rows:
        below = f'<p style="margin:.6em 0 0">no regions</p>{below}'
    if left_out:
        below = f'<p style="margin:.6em 0 0">and {left_out} more regions</p>{below}'
    table = _table(heads, rows) if rows else ""
    return f'<div style="{_WHOLE}">{_picture(annotations, preview)}{table}{below}</div>'


def _picture(annotations: Sequence[Annotation], preview: "Preview | None") -> str:
    """The drawing as an image that is part of the document; a sentence where the image is gone."""
    if preview is None:
        return ""
    try:
        image = preview.image()
    except (ImageError, OSError) as error:
        return f'<p style="margin:0 0 .6em;font-style:italic">no picture: {html.escape(str(error))}</p>'
    drawn, stored = draw_regions(image, annotations, size=preview.size, longest=LONGEST, legend=False), io.BytesIO()
    drawn.save(stored, "JPEG", quality=_QUALITY, optimize=True)
    said = "; ".join(f"{index}: {each.title}" for index, each in enumerate(annotations[:MOST_ROWS]))
    source = f"data:image/jpeg;base64,{base64.b64encode(stored.getvalue()).decode()}"
    alternative = html.escape(said or "an image without regions", quote=True)
    return f'<img alt="{alternative}" src="{source}" style="display:block;max-width:100%;max-height:45em">'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col" style="{_CELL};font-weight:600">{html.escape(each)}</th>' for each in heads)
    lines = [f'<tr style="background:transparent">{head}</tr>'] if head else []
    for row in rows:
        cells = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row)
        lines.append(f'<tr style="{_ROW}">{cells}</tr>')
    return f'<table style="border-collapse:collapse;margin:.6em 0 0;color:inherit">{"".join(lines)}</table>'


def _chip(index: int) -> str:
    """A region's number on its colour, as on the image."""
    mark = mark_of(index)
    style = "display:inline-block;min-width:1.6em;text-align:center;border-radius:.3em;font-weight:600;padding:0 .2em;"
    return f'<span style="{style}background:{mark.colour};color:{mark.ink}">{index}</span>'


def _described(found: "FoundRegion", task: str) -> Any:
    return None if found.description is None else found.description.results.get(task)


def _result(result: Any, task: str) -> str:
    """The cell of a task: a sentence, or names with bars."""
    if result is None:
        return ""
    if task == Task.CAPTION:
        return _bar(result.text, result.probability)
    return "".join(_bar(label.name, label.probability) for label in likely(result, MOST_LABELS))


def _bar(text: str, probability: float | None) -> str:
    """A text with its probability as a bar and a figure below."""
    if probability is None:
        return f"<div>{_text(text)}</div>"
    full = min(max(probability, 0.0), 1.0) * 100
    bar = (
        '<span style="display:inline-block;width:4em;height:.35em;border-radius:.2em;vertical-align:middle;'
        f"background:linear-gradient(to right,currentColor {full:.0f}%,rgba(128,128,128,.35) {full:.0f}%)"
        '"></span>'
    )
    number = f'<span style="opacity:.75;white-space:nowrap">{bar} {figure(probability)}</span>'
    return (
        f'<div style="display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 .6em">{_text(text)}{number}</div>'
    )


def _text(text: str) -> str:
    """Text of any language, in its own direction."""
    return f'<span dir="auto">{html.escape(text)}</span>'

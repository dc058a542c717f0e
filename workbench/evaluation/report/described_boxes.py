"""What a model says of each labelled box of photographs, as JSON lines and as a Markdown table, wrong answers too."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dynrefer.model.types import Label
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.metrics.photograph_metrics import PARENT
from dynrefer.workbench.evaluation.photographs import DescribedBox

_LEAVES = 3  # categories shown per box


def write_described(path: Path, boxes: Sequence[DescribedBox]) -> None:
    """Write one JSON object per box, atomically. Raises `DataError` if it cannot be written."""
    text = "".join(json.dumps(described_json(each), ensure_ascii=False) + "\n" for each in boxes)
    try:
        replace_text(path, text)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from error


def described_json(each: DescribedBox) -> dict[str, Any]:
    """Everything that is said of a box, what is true of it, and the verdict; JSON-ready."""
    found, verdict = each.found, each.verdict
    caption = found.caption
    return {
        "file": each.file,
        "box": list(each.truth.box),
        "split": each.split,
        "accepted": list(each.truth.accepted),
        "parents": list(each.truth.parents),
        "colours": list(each.truth.colours),
        "decision": each.decision,
        "caption": caption
        and {
            "text": caption.text,
            "score": caption.score,
            "logprob_mean": caption.logprob_mean,
            "name": caption.name,
            "probability": caption.probability,
        },
        "categories": _labels(found.categories or ()),
        "tags": _labels(found.tags or ()),
        "attributes": [
            {"name": label.name, "score": label.score, "probability": label.probability}
            for label in found.attributes or ()
        ],
        "verdict": {
            "top1": verdict.top1,
            "top5": verdict.top5,
            "backs_off": verdict.backs_off,
            "top1_or_parent": verdict.top1_or_parent,
            "noun": verdict.noun,
            "caption_names_it": verdict.names_it,
            "caption_true": verdict.caption_true,
            "false_noun": verdict.false_noun,
            "confident_wrong": verdict.confident_wrong,
            "colours": list(verdict.colours),
            "colour_right": verdict.colour_right,
            "other_words": list(verdict.others),
        },
    }


def _labels(labels: Iterable[Label]) -> list[dict[str, Any]]:
    return [
        {"name": label.name, "score": label.score, "probability": label.probability}
        | ({"level": label.level} if label.level else {})
        for label in labels
    ]


def boxes_table(boxes: Sequence[DescribedBox]) -> str:
    """One row per box: what is true, what is said, and whether that is right."""
    head = "| photograph | box | true names | caption | names it | categories | first right | colour |\n"
    return head + "|---" * 8 + "|\n" + "".join(map(_row, boxes))


def _row(each: DescribedBox) -> str:
    caption = each.found.caption
    text = caption.text if caption else ""
    if caption and caption.probability is not None:
        text += f" ({caption.name} {caption.probability:.2f})"
    box = ", ".join(f"{value:g}" for value in each.truth.box)
    cells = (each.file, box, ", ".join(each.truth.accepted), text, _naming(each), *_categories(each), _colour(each))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _naming(each: DescribedBox) -> str:
    verdict = each.verdict
    if verdict.names_it:
        return "yes"
    return "broader, true" if verdict.caption_true else "**no**"


def _categories(each: DescribedBox) -> tuple[str, str]:
    labels = each.found.categories or ()
    shown = [f"{label.name} {label.probability:.2f}" for label in labels[: _LEAVES + each.verdict.backs_off]]
    if each.verdict.backs_off:
        shown[0] += f" ({PARENT})"
    if each.verdict.top1:
        right = "yes"
    elif each.verdict.top1_or_parent:
        right = "broader, true"
    else:
        right = "in the first 5" if each.verdict.top5 else "**no**"
    return ", ".join(shown), right


def _colour(each: DescribedBox) -> str:
    said = ", ".join(each.verdict.colours)
    if each.verdict.colour_right is None:
        return f"{said} (not labelled)" if said else ""
    return f"{said}: right" if each.verdict.colour_right else f"{said}: **wrong**, {', '.join(each.truth.colours)}"

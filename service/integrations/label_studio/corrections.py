"""An annotation of Label Studio -> lines of a folder of corrections: what a person says of each region that they drew.

A line has a member only where the annotation says something about it: a control that was left alone judges nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dynrefer.service.integrations.label_studio.drawn import Drawn, drawn_regions, image_size
from dynrefer.service.integrations.label_studio.labeling import Answer, Fills, Labeling
from dynrefer.service.integrations.label_studio.questions import attribute_type

SOURCE = "label-studio"

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a line comes from: the ids of its task and its annotation there. Its id begins with them."""

    task: str
    annotation: str

    @classmethod
    def of(cls, line_id: str) -> "Origin | None":
        """Of a line's id; None where the line is of another source."""
        parts = line_id.split(":", 3)
        return cls(parts[1], parts[2]) if len(parts) == 4 and parts[0] == SOURCE else None

    def line_id(self, region: str) -> str:
        """The id of a region's line."""
        return f"{SOURCE}:{self.task}:{self.annotation}:{region}"


def annotation_lines(
    annotation: Mapping[str, Any], task: str, labeling: Labeling, max_pixels: int
) -> tuple[Origin, list[Line]]:
    """A line for each region with a box on the image, still without its image; none for an annotation that was skipped.

    Raises InvalidRequestError for numbers that make no sense.
    """
    origin = Origin(task, str(annotation.get("id", "")))
    results = annotation.get("result")
    if annotation.get("was_cancelled") or not isinstance(results, list):
        return origin, []
    said: dict[str, list[Mapping[str, Any]]] = {}
    for item in results:
        if isinstance(item, dict) and isinstance(item.get("value"), dict):
            said.setdefault(str(item.get("id")), []).append(item)
    head = _about(annotation)
    lines = []
    for place, drawn in enumerate(drawn_regions(results, labeling, max_pixels)):
        box = _inside(drawn, *image_size(drawn.item, f"/{place}"))
        if box is not None:
            judged = _judged(said.get(drawn.id, ()), labeling)
            lines.append({"id": origin.line_id(drawn.id), "box": box, **judged, **head})
    return origin, lines


def _inside(drawn: Drawn, width: int, height: int) -> list[float] | None:
    """The box within the image, to a thousandth of a pixel; None where less than a pixel of it is there."""
    box = drawn.box(width, height)
    if box is None:
        return None
    x1, y1, x2, y2 = (round(min(max(each, 0.0), most), 3) for each, most in zip(box, (width, height) * 2, strict=True))
    return [x1, y1, x2, y2] if x2 - x1 >= 1 and y2 - y1 >= 1 else None


def _judged(items: Iterable[Mapping[str, Any]], labeling: Labeling) -> Line:
    """The members caption, category, tags and attributes, each only where something was said."""
    found: Line = {}
    labels: list[str] = []
    for item in items:
        value, answer = item["value"], labeling.answer_named(item.get("from_name"))
        if answer is not None:
            _add(found, answer, _texts(value, answer))
        elif not labels:
            labels = _labels(item, labeling)
    if labels and "category" not in found:
        found["category"] = labels[0]
    return {name: found[name] for name in ("caption", "category", "tags", "attributes") if name in found}


def _add(found: Line, answer: Answer, texts: list[str]) -> None:
    if answer.fills is Fills.CAPTION:
        if texts:
            found["caption"] = " ".join(texts)
    elif answer.fills is Fills.CATEGORY:
        if texts:
            found["category"] = texts[0]
    elif answer.fills is Fills.ATTRIBUTES and answer.type != "textarea":
        typed = [f"{attribute_type(answer)}:{text}" for text in texts]
        found["attributes"] = [*found.get("attributes", ()), *typed]
    else:
        found[answer.fills.value] = [*found.get(answer.fills.value, ()), *texts]


def _texts(value: Mapping[str, Any], answer: Answer) -> list[str]:
    """What was written or chosen, in the words of the configuration and not as results store them."""
    given = value.get("text" if answer.type == "textarea" else answer.type)
    items = given if isinstance(given, list) else [given]
    if answer.type == "taxonomy":
        items = [each[-1] for each in items if isinstance(each, list) and each]
    names = {word.stored: word.name for word in reversed(answer.words)}
    texts = [" ".join(each.split()) for each in items if isinstance(each, str)]
    return [names.get(text, text) for text in texts if text]


def _labels(item: Mapping[str, Any], labeling: Labeling) -> list[str]:
    """The labels of a shape, or of the control `Labels`: what the region is."""
    kind = str(item.get("type"))
    given = item["value"].get(kind)
    if not kind.endswith("labels") or not isinstance(given, list):
        return []
    shapes = [*labeling.shapes, *([labeling.labels] if labeling.labels else [])]
    words = next((shape.words for shape in shapes if shape.name == item.get("from_name")), ())
    names = {word.stored: word.name for word in words}
    return [names.get(each, each) for each in given if isinstance(each, str)]


def _about(annotation: Mapping[str, Any]) -> Line:
    """Who and when: a person's id in Label Studio, and the time to the second."""
    by = annotation.get("completed_by")
    who = by.get("id") if isinstance(by, dict) else by
    found: Line = {} if who is None else {"by": f"{SOURCE}:{who}"}
    try:
        at = datetime.fromisoformat(str(annotation.get("updated_at") or annotation.get("created_at"))).astimezone(UTC)
    except (ValueError, OverflowError):  # the latter: of a time before the first or after the last year
        return found
    return {**found, "at": at.strftime("%Y-%m-%dT%H:%M:%SZ")}

"""The answer's records -> a tool's result: a text for the language model, the records themselves, and pictures."""

import base64
from collections.abc import Sequence
from typing import Any

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent
from pydantic import BaseModel

from dynrefer.service.api.detect_schemas import AbsentOut, DetectResponse, FoundRegionOut
from dynrefer.service.api.explanation_schemas import ExplanationOut
from dynrefer.service.api.schemas import DescribeResponse, FailedRegionOut, RegionOut

LISTS = ("categories", "tags", "attributes")
LABELS = 5  # of a task, the first so many are in the text
LEAST = 0.05  # probability of a label in the text, the first one's aside


def described_result(answer: DescribeResponse) -> CallToolResult:
    """Of the tools describe and explain. Pictures of views are taken out of the records: they come as pictures."""
    lines = [f"{answer.image.width} x {answer.image.height} pixels"]
    pictures: list[ContentBlock] = []
    for region in answer.regions:
        if isinstance(region, FailedRegionOut):
            lines.append(f"{region.id}: {region.error.detail}")
            continue
        lines.append(f"{_place(region)}: {_said(region)}")
        if region.explanation is not None:
            lines += [f"  {line}" for line in why(region.explanation)]
            pictures += _views(region.id, region.explanation)
    return _result(answer, lines, pictures)


def found_result(answer: DetectResponse) -> CallToolResult:
    """Of the tool detect."""
    lines = [f"{answer.image.width} x {answer.image.height} pixels, {len(answer.regions)} found"]
    for region in answer.regions:
        score = f"score {_figure(region.score)}, probability {_figure(region.probability)}"
        described = _said(region)
        lines.append(f"{_place(region)}: {region.phrase or region.label}, {score}{described and '; ' + described}")
    lines += [_absent(each) for each in answer.absent]
    return _result(answer, lines, [])


def with_drawing(result: CallToolResult, drawing: bytes | None) -> CallToolResult:
    """The result with the drawn image, a JPEG, or with a line that says why there is none."""
    if drawing is None:
        shown: ContentBlock = TextContent(type="text", text="The image is too large to be drawn; the rest is complete.")
    else:
        data = base64.b64encode(drawing).decode()
        shown = ImageContent(type="image", data=data, mime_type="image/jpeg")
    return result.model_copy(update={"content": [*result.content, shown]})


def _result(answer: BaseModel, lines: Sequence[str], pictures: Sequence[ContentBlock]) -> CallToolResult:
    unknown = [each.name for each in getattr(answer, "unknown_words", None) or ()]
    if unknown:
        lines = [*lines, f"unknown words: {', '.join(unknown)}"]
    document: dict[str, Any] = answer.model_dump(mode="json", exclude_none=True)
    text = TextContent(type="text", text="\n".join(lines))
    return CallToolResult(content=[text, *pictures], structured_content=document)


def _place(region: RegionOut | FoundRegionOut) -> str:
    return f"{region.id} at [{', '.join(f'{value:g}' for value in region.box)}]"


def _said(region: RegionOut | FoundRegionOut) -> str:
    """What is said of a region, the caption first."""
    parts = []
    if region.caption is not None:
        sure = "" if region.caption.probability is None else f" (probability {_figure(region.caption.probability)})"
        parts.append(f"{region.caption.text}{sure}")
    for task in LISTS:
        if labels := getattr(region, task):
            parts.append(f"{task} {listed(labels)}")
    return "; ".join(parts)


def listed(labels: Sequence[Any]) -> str:
    """The likeliest labels of a task, with their probabilities."""
    likely = [each for place, each in enumerate(labels[:LABELS]) if not place or each.probability >= LEAST]
    return ", ".join(f"{each.name} {_figure(each.probability)}" for each in likely)


def _absent(name: AbsentOut) -> str:
    return f"not found: {name.name} (probability that it is there: {_figure(name.probability)})"


def why(explanation: ExplanationOut) -> list[str]:
    """An explanation in sentences."""
    chosen = [each for each in explanation.views if each.chosen]
    lines = [f"views looked at, from the region (t = 0) to the whole image (t = 1): {_ts(chosen)}"]
    lines += [f"chosen for {', '.join(prior.tasks)} by the {prior.policy}" for prior in explanation.priors]
    if explanation.evidence is not None:
        found = explanation.evidence
        lines.append(
            f"taken for {found.name} (probability {_figure(found.probability)}) in a {found.domain}"
            + (f", coloured {found.colour}" if found.colour else "")
        )
    for word in explanation.words or ():
        if word.kind == "unknown":
            continue
        support = "nothing else says so"
        if word.support is not None:
            task = {"tags": "tag", "categories": "category"}[word.support.task]
            support = f"the {task} {word.support.name} says so too, probability {_figure(word.support.probability)}"
        seen = "" if word.view is None else f"; seen in the view t = {word.view:g}"
        seen = "; seen by the looks at a photograph" if word.carried_by == "evidence" else seen
        lines.append(f"the {word.kind} '{word.text}': {support}{seen}")
    return lines


def _ts(views: Sequence[Any]) -> str:
    return ", ".join(f"t = {each.t:g}" for each in views)


def _views(name: str, explanation: ExplanationOut) -> list[ContentBlock]:
    """Pictures of the views that were looked at, each behind a line that says which it is."""
    found: list[ContentBlock] = []
    for view in explanation.views:
        if view.thumbnail is not None:
            found.append(TextContent(type="text", text=f"region {name}, the view t = {view.t:g}:"))
            found.append(ImageContent(type="image", data=view.thumbnail, mime_type="image/webp"))
            view.thumbnail = None
    return found


def _figure(number: float) -> str:
    return f"{number:.2f}"

"""What is written about a region: of what was described, found or said, the part that drawings and notebooks show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model.conversation import Reply
from dynrefer.model.finding import FoundRegion
from dynrefer.model.prompts import Prompt
from dynrefer.model.tasks import TASKS
from dynrefer.model.types import Corners, RegionDescription, Task

LABELS, LIKELY = 3, 0.05  # of a list of names, the first so many are drawn, and behind the first likely ones alone


@dataclass(frozen=True, slots=True)
class Annotation:
    """A region with what a drawing says of it.

    box: xyxy, pixels of the upright image. title: a few words, in any script. probability: that the title is right;
    None where it is not known. lines: more about it, (heading, text). shape: what it was pointed at with, or its mask.
    """

    box: Corners
    title: str = ""
    probability: float | None = None
    lines: tuple[tuple[str, str], ...] = ()
    shape: Prompt | None = None


def annotation_of(described: RegionDescription, shape: Prompt | None = None) -> Annotation:
    """Of a description. shape: what the region was pointed at with; a mask that was found goes before it."""
    results = {task.name: described.results[task.name] for task in TASKS if task.name in described.results}
    title, probability, task = _title(results)
    lines = tuple((name, listed(result)) for name, result in results.items() if name != task and result)
    return Annotation(described.box, title, probability, lines, described.mask or shape)


def annotation_of_found(found: FoundRegion) -> Annotation:
    """Of a region that was found; lines: what was described of it, the caption in full."""
    described: Mapping[str, Any] = {} if found.description is None else found.description.results
    results = {task.name: described[task.name] for task in TASKS if task.name in described}
    said = {name: result.text if name == Task.CAPTION else listed(result) for name, result in results.items()}
    title = found.phrase or found.label
    lines = tuple((name, text) for name, text in said.items() if text and text != title)
    return Annotation(found.box, title, found.probability, lines, found.mask)


def annotations_of_reply(reply: Reply) -> list[Annotation]:
    """Of the objects that an answer names, in its order; lines: that a box is not verified, where it is so."""
    doubts = (("box", "not verified"),)
    return [
        Annotation(
            each.box, reply.content[slice(*each.span)], each.probability, doubts if each.verified is False else ()
        )
        for each in reply.grounding
    ]


def listed(labels: Sequence[Any], most: int = LABELS) -> str:
    """The likeliest names with their probabilities, "phone .93, camera .06"; a line never breaks before a figure."""
    return ", ".join(f"{label.name}\u00a0{figure(label.probability)}" for label in likely(labels, most))


def likely(labels: Sequence[Any], most: int = LABELS) -> list[Any]:
    """The first label, and those of the next ones that may well be true."""
    return [label for place, label in enumerate(labels[:most]) if not place or label.probability >= LIKELY]


def figure(probability: float) -> str:
    """Two decimal places, as tables have them: .93, 1.00."""
    return f"{probability:.2f}".removeprefix("0")


def _title(results: Mapping[str, Any]) -> tuple[str, float | None, str | None]:
    """The words that say most, with their probability, and the task that they are of; empty where nothing was said."""
    caption = results.get(Task.CAPTION)
    if caption is not None:
        return caption.text, caption.probability, Task.CAPTION
    for task in (Task.CATEGORIES, Task.TAGS, Task.ATTRIBUTES):
        if results.get(task):
            best = results[task][0]
            alone = task if len(likely(results[task])) == 1 else None  # the title says it all
            return best.name, best.probability, alone
    return "", None, None

"""Shapes that are in a CVAT task already -> their text attributes, filled with what a service says of each.

Only text attributes are written, and only those of shapes that are still as they were when they were described: what
annotators change meanwhile stays. The work is sent back every few images, so that a run that ends early has done a
part, and another goes on from there.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import cos, radians, sin
from typing import Any, TypeVar

import numpy as np
from cvat_sdk import models
from cvat_sdk.core.proxies.tasks import Task as CvatTask
from cvat_sdk.masks import decode_mask
from PIL import Image

from dynrefer.model import Polygon, Prompt, mask_from_bitmap
from dynrefer.service.client.client import Client
from dynrefer.service.client.cvat.wording import Word, tasks_of, written
from dynrefer.service.client.errors import ProblemError

Item = TypeVar("Item")
KINDS = ("rectangle", "polygon", "mask", "ellipse")  # of shapes that have an inside
IMAGES_A_TIME = 10  # after so many, what was said is sent back


@dataclass
class Outcome:
    """What a run did, in shapes. refused: (shape, why). changed: described, but edited or deleted meanwhile."""

    described: int = 0
    filled_before: int = 0
    of_other_kinds: int = 0
    changed: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.described} shape{'' if self.described == 1 else 's'} described"]
        parts += [f"{self.filled_before} had their attributes already"] if self.filled_before else []
        parts += [f"{self.of_other_kinds} have no inside or no such attribute"] if self.of_other_kinds else []
        parts += [f"{self.changed} were changed meanwhile and stay"] if self.changed else []
        parts += [f"{len(self.refused)} could not be described"] if self.refused else []
        return "; ".join(parts) + "."


class NoAttributes(ValueError):
    """No label of the task has a text attribute of the names that are to be filled."""


def describe_task(
    task: CvatTask,
    client: Client,
    wording: Sequence[Word],
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Fill the attributes of all shapes of a task. overwrite: those that hold something too; else they are passed over.

    Raises NoAttributes, `ClientError` where the service cannot be asked, and what the SDK raises where CVAT cannot.
    """
    numbers = _attribute_numbers(task, wording)
    outcome = Outcome()
    waiting = _waiting(task.get_annotations().shapes, numbers, outcome, overwrite=overwrite)
    most = client.model().limits["max_regions"]
    frames = [(frame, list(shapes)) for frame, shapes in groupby(waiting, key=lambda shape: shape.frame)]
    done = 0
    for several in _parts(frames, IMAGES_A_TIME):
        said: dict[int, _Said] = {}
        for frame, shapes in several:
            pixels = np.asarray(Image.open(task.get_frame(frame, quality="original")).convert("RGB"))
            for part in _parts(shapes, most):
                said |= _describe(client, pixels, part, wording, outcome)
        _send(task, said, numbers, outcome, overwrite=overwrite)
        done += len(several)
        progress(f"{done} of {len(frames)} images, {outcome.described} shapes described")
    return outcome


def _parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    return (items[at : at + most] for at in range(0, len(items), most))


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of a shape. of: what it looked like then. values: attribute's name -> value."""

    of: tuple[Any, ...]
    values: Mapping[str, str]


Numbers = Mapping[int, Mapping[str, int]]  # a label's id -> its text attributes to fill: name -> the attribute's id


def _attribute_numbers(task: CvatTask, wording: Sequence[Word]) -> Numbers:
    wanted = [word.name for word in wording]
    found: dict[int, dict[str, int]] = {}
    for label in task.get_labels():
        texts = {each.name: each.id for each in label.attributes if str(each.input_type) == "text"}
        found[label.id] = {name: texts[name] for name in wanted if name in texts}
    if not any(found.values()):
        raise NoAttributes(
            f"No label of task {task.id} has a text attribute named {' or '.join(map(repr, wanted))}; add one in the "
            "task's or project's constructor, or name another with --attributes."
        )
    return found


def _waiting(shapes: Iterable[Any], numbers: Numbers, outcome: Outcome, *, overwrite: bool) -> list[Any]:
    """The shapes to describe, by their frames."""
    waiting = []
    for shape in shapes:
        if str(shape.type) not in KINDS or not numbers.get(shape.label_id):
            outcome.of_other_kinds += 1
        elif not overwrite and not _empty(shape, numbers[shape.label_id]):
            outcome.filled_before += 1
        else:
            waiting.append(shape)
    return sorted(waiting, key=lambda shape: shape.frame)


def _empty(shape: Any, numbers: Mapping[str, int]) -> list[str]:
    """The names of its attributes that hold nothing."""
    held = {each.spec_id: each.value for each in shape.attributes}
    return [name for name, number in numbers.items() if not held.get(number)]


def _describe(
    client: Client, pixels: Any, shapes: Sequence[Any], wording: Sequence[Word], outcome: Outcome
) -> dict[int, _Said]:
    """A shape's id -> what is said of it."""
    regions = [_region(shape, pixels.shape[1], pixels.shape[0]) for shape in shapes]
    answers = client.describe(pixels, regions, tasks_of(wording), on_region_error="report")
    said = {}
    for shape, answer in zip(shapes, answers, strict=True):
        if isinstance(answer, ProblemError):
            outcome.refused.append((shape.id, str(answer)))
        else:
            said[shape.id] = _Said(_look(shape), written(wording, answer))
    return said


def _region(shape: Any, width: int, height: int) -> Sequence[float] | Prompt:
    """A shape as a region: a box, or what is nearest to its outline."""
    kind, points = str(shape.type), list(shape.points)
    if kind == "rectangle" and not shape.rotation:
        return points
    if kind == "rectangle":
        return Polygon((_turned(points, shape.rotation),))
    if kind == "polygon":
        return Polygon((tuple(points),))
    if kind == "mask":
        return mask_from_bitmap(decode_mask(points, image_width=width, image_height=height))
    x, y, right, top = points  # of an ellipse: its centre, its right end and its upper end
    across, up = right - x, y - top
    angle = radians(shape.rotation or 0)
    spread_x = float(np.hypot(across * cos(angle), up * sin(angle)))
    spread_y = float(np.hypot(across * sin(angle), up * cos(angle)))
    return [x - spread_x, y - spread_y, x + spread_x, y + spread_y]


def _turned(box: Sequence[float], degrees: float) -> tuple[float, ...]:
    """The corners of a rectangle that is turned clockwise around its centre."""
    x1, y1, x2, y2 = box
    x, y, angle = (x1 + x2) / 2, (y1 + y2) / 2, radians(degrees)
    corners = ((x1 - x, y1 - y), (x2 - x, y1 - y), (x2 - x, y2 - y), (x1 - x, y2 - y))
    turned = ((x + dx * cos(angle) - dy * sin(angle), y + dx * sin(angle) + dy * cos(angle)) for dx, dy in corners)
    return tuple(number for corner in turned for number in corner)


def _look(shape: Any) -> tuple[Any, ...]:
    """What has to be as it was for a description to be of this shape."""
    return shape.frame, shape.label_id, str(shape.type), tuple(shape.points), shape.rotation


def _send(task: CvatTask, said: Mapping[int, _Said], numbers: Numbers, outcome: Outcome, *, overwrite: bool) -> None:
    """Write what was said into the shapes as they are now."""
    if not said:
        return
    now = {shape.id: shape for shape in task.get_annotations().shapes if shape.id in said}
    changed = list(_changed(now, said, numbers, overwrite=overwrite))
    outcome.changed += len(said) - len(changed)
    outcome.described += len(changed)
    if changed:
        task.update_annotations(models.PatchedLabeledDataRequest(shapes=changed))


def _changed(
    now: Mapping[int, Any], said: Mapping[int, _Said], numbers: Numbers, *, overwrite: bool
) -> Iterator[models.LabeledShapeRequest]:
    for number, each in said.items():
        shape = now.get(number)
        if shape is None or _look(shape) != each.of:
            continue
        own = numbers[shape.label_id]
        names = list(own) if overwrite else _empty(shape, own)
        if names:
            yield _with_values(shape, {own[name]: each.values[name] for name in names})


def _with_values(shape: Any, values: Mapping[int, str]) -> models.LabeledShapeRequest:
    """The shape as it is, with other values of some attributes."""
    held = {each.spec_id: each.value for each in shape.attributes} | dict(values)
    same = ("frame", "occluded", "outside", "z_order", "rotation", "group", "source", "score", "id")
    kept = {name: value for name in same if (value := getattr(shape, name, None)) is not None}
    return models.LabeledShapeRequest(
        type=shape.type,
        label_id=shape.label_id,
        points=list(shape.points),
        attributes=[models.AttributeValRequest(spec_id=number, value=value) for number, value in held.items()],
        **kept,
    )

"""A conversation as text for a vision-language model that speaks of places in coordinates: regions become boxes, and an
instruction says how the answer's objects are to be written. No torch.

Coordinates go from 0 to 1000 of the image's width and height, whatever its size: the convention of Qwen3-VL, which
other models follow when they are told so. `written_answers.py` reads the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.conversation import CANNOT_TELL, REGION, Role

if TYPE_CHECKING:
    import re

    from dynrefer.model.conversation import Conversation
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.types import Corners

STEPS = 1000  # of a coordinate, along each side of the image

_ABOUT = "Places in the image are boxes [x1, y1, x2, y2] in coordinates from 0 to 1000 of its width and height."
_GROUNDED = "Write each object that you name as <ref>its words</ref><box>[x1, y1, x2, y2]</box>."
_PLAIN = "Answer in words alone, without coordinates."
_UNKNOWN = f"Where the image does not show it, answer: {CANNOT_TELL}"


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """One message as the model reads it."""

    role: Role
    text: str


def written_conversation(conversation: Conversation, size: ImageSize) -> list[WrittenTurn]:
    """The messages with their regions as coordinates. size: (width, height) of the upright image, in pixels.

    Every question ends in the same instruction, so that the turns of one conversation begin alike.
    """
    boxes = {each.id: each.query.box for each in conversation.regions}

    def region(found: re.Match[str]) -> str:
        return f"region {found[1]} {written_box(boxes[found[1]], size)}"

    instruction = _instruction(ground=conversation.ground, answers=conversation.answers)
    turns = []
    for message in conversation.messages:
        text = REGION.sub(region, message.content).strip()
        turns.append(WrittenTurn(message.role, f"{text}\n{instruction}" if message.role is Role.USER else text))
    return turns


def written_box(box: Corners, size: ImageSize) -> str:
    """xyxy pixels -> "[x1, y1, x2, y2]" in whole numbers from 0 to 1000."""
    return "[" + ", ".join(map(str, in_steps(box, size))) + "]"


def in_steps(box: Corners, size: ImageSize) -> tuple[int, ...]:
    """xyxy pixels of an image of (width, height) -> whole numbers from 0 to 1000."""
    return tuple(round(STEPS * value / side) for value, side in zip(box, (*size, *size), strict=True))


def _instruction(*, ground: bool, answers: Sequence[str]) -> str:
    if answers:
        return f"{_ABOUT} Answer with exactly one of these, and nothing else: {'; '.join(answers)}."
    return f"{_ABOUT} {_GROUNDED if ground else _PLAIN} {_UNKNOWN}"

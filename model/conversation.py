"""A conversation about an image: what is asked, and what is answered. Records alone; no torch or NumPy at import.

Regions have names of the client's own, and a message refers to one by `<region:NAME>`. An answer is text; where it
names an object, `grounding` says which characters do and where the object is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dynrefer.model.records import JsonRecord
from dynrefer.model.types import Corners, RegionQuery

REGION = re.compile(r"<region:([^<>]*)>")  # how a message refers to a region
REGION_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
CANNOT_TELL = "I cannot tell."  # the answer of a model that does not know


class Role(StrEnum):
    """Who says a message."""

    USER = "user"
    ASSISTANT = "assistant"


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # it is complete
    LENGTH = "length"  # it has as many tokens as were allowed


@dataclass(frozen=True, slots=True)
class Message(JsonRecord):
    """One turn. content: text, in which `<region:NAME>` stands for a region."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class NamedRegion(JsonRecord):
    """A region that messages refer to by `id`. query: what it was pointed at with (box, mask, points, flaw)."""

    id: str
    query: RegionQuery


@dataclass(frozen=True, slots=True)
class Conversation(JsonRecord):
    """What is asked of an image. messages: from the first turn on; users and the assistant take turns, and the last
    one is the user's. ground: whether the answer's objects are to have boxes. answers: the only ones allowed, of which
    the best is chosen; empty: any. max_tokens: of the answer.
    """

    messages: tuple[Message, ...]
    regions: tuple[NamedRegion, ...] = ()
    ground: bool = True
    answers: tuple[str, ...] = ()
    max_tokens: int = 64

    @property
    def question(self) -> str:
        """The last message's content."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class GroundedSpan(JsonRecord):
    """An object that an answer names. span: its characters [start, end) in the content.

    box: xyxy pixels of the upright image. probability: that the object is what the words say; None where the engine
    does not say. verified: whether the region model agrees that what the words name is in this box; None before it was
    asked, and where it knows no such word. region: the `id` of the request's region that it is, if it is one.
    """

    span: tuple[int, int]
    box: Corners
    probability: float | None = None
    verified: bool | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerProbability(JsonRecord):
    """One of the allowed answers. probability: those of a request sum to 1; the embedded converser's are calibrated."""

    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class Reply(JsonRecord):
    """An answer. grounding: by span. probability: that the answer is right; None where the engine does not say.

    answers: of a request that allows only these, by descending probability. tokens: written so far.
    """

    content: str
    grounding: tuple[GroundedSpan, ...] = ()
    probability: float | None = None
    answers: tuple[AnswerProbability, ...] = field(default=())
    finish: Finish = Finish.STOP
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with a conversation. path: where, as in JSON: ("messages", 0, "content")."""

    path: tuple[str | int, ...]
    detail: str


def conversation_flaws(
    messages: Sequence[Message], regions: Sequence[str], answers: Sequence[str] = (), *, max_messages: int = 0
) -> Iterator[Flaw]:
    """What is wrong with messages about regions of these names. max_messages: 0: any number."""
    if not messages:
        yield Flaw(("messages",), "The list is empty: ask something.")
    if max_messages and len(messages) > max_messages:
        yield Flaw(("messages",), f"A conversation has at most {max_messages} messages: leave early ones out.")
    for place, message in enumerate(messages):
        expected = Role.USER if place % 2 == 0 else Role.ASSISTANT
        if message.role is not expected:
            detail = f"User and assistant take turns, and the user begins: this one must be {expected.value!r}."
            yield Flaw(("messages", place, "role"), detail)
        if not message.content.strip():
            yield Flaw(("messages", place, "content"), "The text is empty: give some words.")
        yield from _flaws_of_references(message.content, regions, ("messages", place, "content"))
    if messages and messages[-1].role is not Role.USER:
        yield Flaw(("messages", len(messages) - 1, "role"), "The last message must be the user's question.")
    yield from _flaws_of_ids(regions)
    yield from _flaws_of_answers(answers, regions)


def _flaws_of_references(text: str, regions: Sequence[str], path: tuple[str | int, ...]) -> Iterator[Flaw]:
    for name in dict.fromkeys(REGION.findall(text)):
        if name not in regions:
            detail = f"'<region:{name:.70}>' refers to a region that 'regions' does not have: add one with this id."
            yield Flaw(path, detail)


def _flaws_of_ids(regions: Sequence[str]) -> Iterator[Flaw]:
    for place, name in enumerate(regions):
        if REGION_ID.fullmatch(name) is None:
            detail = "An id has 1 to 64 letters, digits, dots, hyphens and underscores."
            yield Flaw(("regions", place, "id"), detail)
        elif name in regions[:place]:
            yield Flaw(("regions", place, "id"), f"Two regions have the id {name!r}: give each its own.")


def _flaws_of_answers(answers: Sequence[str], regions: Sequence[str]) -> Iterator[Flaw]:
    if len(answers) == 1:
        yield Flaw(("answers",), "One answer leaves nothing to choose: give two or more, or leave 'answers' out.")
    seen: set[str] = set()
    for place, answer in enumerate(answers):
        if not answer.strip():
            yield Flaw(("answers", place), "The answer is empty: give some words.")
        elif answer.strip().lower() in seen:
            yield Flaw(("answers", place), f"The answer {answer.strip()[:70]!r} is there twice: give each once.")
        seen.add(answer.strip().lower())
        yield from _flaws_of_references(answer, regions, ("answers", place))

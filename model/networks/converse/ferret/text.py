"""The text around Ferret's features: a conversation -> the parts of a prompt; what was written -> words and boxes.

A region is written as its name, its box and its feature: `region a [103, 40, 371, 902] <feature>`. An answer has a box
behind the words that it belongs to: `a dog [103, 40, 371, 902] on a mat`. Coordinates are whole numbers from 0 to 999,
thousandths of the image's width and height. Source: section 3.1 of Ferret (arXiv 2310.07704). No torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dynrefer.model.conversation import CANNOT_TELL, REGION, Conversation, GroundedSpan, NamedRegion, Role
from dynrefer.model.geometry import ImageSize
from dynrefer.model.grounding.sentence import noun_phrases
from dynrefer.model.types import Corners

BINS = 1000  # of a coordinate
_NAME = "region "  # before a region's id
_BRACKET = re.compile(r"\s*\[[\d\s,]*\]")
# The beginning of a box, or of a character, of which more may come.
_UNFINISHED = re.compile(r"\s*(?:\[[\d\s,]*|\N{REPLACEMENT CHARACTER}+)$")
_LAST_WORD = re.compile(r"[^\W_][\w'\u2019-]*$")
_LAST_REGION = re.compile(rf"\b{_NAME}([A-Za-z0-9_.-]+)$")


@dataclass(frozen=True, slots=True)
class PromptWords:
    """What stands around messages; see `FerretConfig`."""

    system: str
    user: str
    assistant: str
    ground_request: str


class Said(str):
    """Text of a message, in which nothing is a mark of the language model's, whatever it looks like."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Placeholder:
    """Where features stand in a prompt. region: whose; None: the image's."""

    region: NamedRegion | None


@dataclass(frozen=True, slots=True)
class EndOfAnswer:
    """Where the language model's end token stands, behind an earlier answer."""


PromptPart = str | Placeholder | EndOfAnswer


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What was written, read. content: its words. grounding: boxes in pixels of the upright image, clipped to it.

    stable: so many characters of the content stay, whatever is written behind it.
    """

    content: str
    grounding: tuple[GroundedSpan, ...]
    stable: int


def prompt_parts(conversation: Conversation, size: ImageSize, words: PromptWords) -> Iterator[PromptPart]:
    """The prompt, up to where the answer begins. size: (width, height) of the upright image.

    A message gives the same parts whether others follow or not, so that what was computed of it can be used again.
    """
    regions = {each.id: each for each in conversation.regions}
    yield words.system
    yield Placeholder(None)
    for message in conversation.messages:
        asked = message.role is Role.USER
        yield words.user if asked else words.assistant
        # `split` with a group gives text and ids in turn.
        for place, piece in enumerate(REGION.split(message.content if asked else f" {message.content.strip()}")):
            if place % 2:
                yield _NAME + piece + " " + written_box(regions[piece].query.box, size) + " "
                yield Placeholder(regions[piece])
            elif piece:
                yield Said(piece)
        if asked and conversation.ground and words.ground_request:
            yield words.ground_request
        elif not asked:
            yield EndOfAnswer()
    yield words.assistant


def written_box(box: Corners, size: ImageSize) -> str:
    """xyxy pixels of an image of (width, height) -> `[x1, y1, x2, y2]`, each 0 to 999."""
    places = (min(BINS - 1, max(0, int(value * BINS / side))) for value, side in zip(box, (*size, *size), strict=True))
    return f"[{', '.join(map(str, places))}]"


def read_answer(text: str, size: ImageSize, regions: Collection[str], *, ground: bool, done: bool) -> ReadAnswer:
    """text: what was written so far. regions: the names of the request's. A box that is none (not four numbers below
    1000, or inverted) is left out, and the words before it stay."""
    if unfinished := _UNFINISHED.search(text):
        text = text[: unfinished.start()]
    content, grounding, segment = "", list[GroundedSpan](), 0
    span: tuple[int, int] | None = None
    end = 0
    for bracket in _BRACKET.finditer(text):
        content = (content + text[end : bracket.start()]).lstrip()
        end = bracket.end()
        if content[segment:].strip():  # else another box of the words before
            span, segment = _named(content, segment), len(content)
        box = _pixels(bracket[0], size)
        if ground and span is not None and box is not None:
            named = _LAST_REGION.search(content[: span[1]])
            region = named[1] if named and named[1] in regions else None
            grounding.append(GroundedSpan(span, box, region=region))
    content = (content + text[end:]).strip()
    if done and not content:
        content = CANNOT_TELL
    return ReadAnswer(content, tuple(grounding), len(content))


def _named(content: str, start: int) -> tuple[int, int] | None:
    """Which characters at the content's end name an object: its last noun phrase, or else its last word. start: where
    the words begin that have no box yet."""
    words = content[start:]
    if named := _LAST_REGION.search(words):
        return start + named.start(), len(content)
    phrases = noun_phrases(words)
    if phrases and phrases[-1].span[1] == len(words):
        return start + phrases[-1].span[0], len(content)
    word = _LAST_WORD.search(words)
    return (start + word.start(), len(content)) if word else None


def _pixels(bracket: str, size: ImageSize) -> Corners | None:
    numbers = [int(each) for each in re.findall(r"\d+", bracket)]
    if len(numbers) != 4 or max(numbers) >= BINS or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        return None
    x1, y1, x2, y2 = (value * side / BINS for value, side in zip(numbers, (*size, *size), strict=True))
    return x1, y1, x2, y2

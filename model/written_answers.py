"""The text of a vision-language model -> an answer's words and the boxes that they have. No torch.

Boxes are read as such models write them, in coordinates from 0 to 1000 of the image (`written_questions.py`):

    <ref>the dog</ref><box>[100, 200, 300, 400]</box>      as asked for; also with (x1,y1),(x2,y2), and Qwen's own marks
    the dog [100, 200, 300, 400]                           as questions have them: of the noun phrase before
    [{"bbox_2d": [100, 200, 300, 400], "label": "dog"}]    JSON, in a fence or alone: the labels become the words

A box that is malformed, turned around, smaller than a pixel or outside the image is left out, and its words stay.
What may still become a mark is held back, so that an answer can be read while it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynrefer.model.conversation import CANNOT_TELL, GroundedSpan
from dynrefer.model.grounding.sentence import noun_phrases
from dynrefer.model.written_questions import STEPS, in_steps

if TYPE_CHECKING:
    from dynrefer.model.conversation import NamedRegion
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.types import Corners

MOST_BOXES = 64  # of an answer
_SLACK = 20  # beyond 0 and 1000, for numbers that are rounded; further out they are no such coordinates
_SAME = 5  # of 1000: a box that is nowhere further from a region's is that region
_LEAST_SIDE = 1.0  # pixels
# Characters before a box, among which its noun phrase is looked for: so few that a list of the shortest nouns has no
# more phrases in them than are found.
_MOST_WORDS = 150

_NUMBER = r"-?\d{1,5}(?:\.\d{1,6})?"
_FOUR = rf"\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*\]"
_MARK = re.compile(
    r"<think>.*?</think>"
    r"|(?:<ref>|<\|object_ref_start\|>)(?P<words>[^<]*)(?:</ref>|<\|object_ref_end\|>)"
    r"|(?:<box>|<\|box_start\|>)(?P<box>[^<]*)(?:</box>|<\|box_end\|>)"
    rf"|(?P<four>{_FOUR})"
    r"|```(?:json)?\s*(?P<fenced>[^`]*)```"
    # The beginning of a mark at the text's end.
    r"|(?P<open>(?:<think>.*"
    r"|(?:<ref>|<\|object_ref_start\|>)(?P<begun>[^<]*)(?:<[/|]?[a-z_]{0,30}\|?)?"
    r"|(?:<box>|<\|box_start\|>)[^<]*(?:<[/|]?[a-z_]{0,30}\|?)?"
    r"|<(?:/?[a-z]{0,5}|\|[a-z_]{0,30}\|?)"
    r"|(?P<numbers>\[[-\d\s.,]*)"
    r"|`{1,2}|```[^`]*`{0,2})\Z)"
    r"|</?(?:ref|box|think)>|<\|[a-z_]{1,30}\|>",
    re.DOTALL,
)
_OBJECT = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """content: the words. grounding: their boxes, in pixels of the upright image. Of an answer that is not complete
    yet, what is sure to stay."""

    content: str
    grounding: tuple[GroundedSpan, ...]


def read_answer(
    text: str, size: ImageSize, regions: Sequence[NamedRegion] = (), *, complete: bool = True
) -> ReadAnswer:
    """text: the model's. size: (width, height) of the upright image. regions: of the question, to say which of them a
    box is. complete: whether the text is the whole answer; else `content` begins the one of any longer text."""
    reading = _Reading(size, regions)
    if text.lstrip()[:1] in ("[", "{"):  # JSON alone, or so it may become
        if not complete:
            return reading.answer()
        if found := _labelled(text):
            reading.add_labelled(found)
            return reading.answer()
    place = 0
    for mark in _MARK.finditer(text):
        reading.add_text(text[place : mark.start()])
        if mark["open"] is None:
            reading.add_mark(mark)
        elif complete:
            reading.add_unfinished(mark)
        place = mark.end()
    reading.add_text(text[place:])
    if complete and not reading.content.strip():
        # Thoughts or marks alone. An answer without words could not be sent back with the next question.
        return ReadAnswer(CANNOT_TELL, ())
    return reading.answer()


@dataclass(slots=True)
class _Reading:
    """What has been read so far. named: the characters that the boxes to come belong to."""

    size: ImageSize
    regions: Sequence[NamedRegion]
    content: str = ""
    named: tuple[int, int] | None = None
    spans: list[GroundedSpan] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        if text.strip(" ,;"):
            self.named = None  # "[..], [..]": boxes of one phrase may be a list
        elif self.named is not None and not text.strip():
            return  # between words and their box
        self.content += text if self.content else text.lstrip()

    def add_mark(self, mark: re.Match[str]) -> None:
        words, box, four, fenced = (mark[name] for name in ("words", "box", "four", "fenced"))
        if words is not None:
            self.named = self._add_words(words)
        elif fenced is not None:
            found = _labelled(fenced)
            self.add_labelled(found) if found else self.add_text(fenced)
        elif box is not None or four is not None:
            self._add_boxes([float(each) for each in re.findall(_NUMBER, box if box is not None else four)])

    def add_unfinished(self, mark: re.Match[str]) -> None:
        """The text ends within a mark: words that it was to hold stay, and signs that are none."""
        words, numbers = mark["begun"], mark["numbers"]
        if words is not None:
            self._add_words(words)
        elif mark["open"].startswith("```"):
            self.add_labelled(_labelled(mark["open"]))
        elif mark["open"] in ("<", "`", "``") or (numbers is not None and not re.search(r"\d", numbers)):
            self.add_text(mark["open"])

    def add_labelled(self, found: Sequence[tuple[str, list[float]]]) -> None:
        """Objects of JSON, as a list in words."""
        for place, (label, numbers) in enumerate(found):
            if place:
                self.content += " and " if place == len(found) - 1 else ", "
            self.named = self._add_words(label)
            self._add_boxes(numbers)
        self.named = None

    def answer(self) -> ReadAnswer:
        return ReadAnswer(self.content.rstrip(), tuple(self.spans))

    def _add_words(self, words: str) -> tuple[int, int] | None:
        said = " ".join(words.split())
        start = len(self.content)
        self.content += said
        return (start, start + len(said)) if said else None

    def _add_boxes(self, numbers: Sequence[float]) -> None:
        self.content = self.content.rstrip()
        if len(self.spans) >= MOST_BOXES:
            return  # looking for their words costs most of the time
        if self.named is None:
            self.named = self._phrase_before()
        if self.named is None:
            return
        for start in range(0, len(numbers) - 3, 4):
            box = _in_pixels(numbers[start : start + 4], self.size)
            if box is not None and len(self.spans) < MOST_BOXES:  # one mark may have several
                span = GroundedSpan(self.named, box, region=self._region(box))
                if span not in self.spans:
                    self.spans.append(span)

    def _phrase_before(self) -> tuple[int, int] | None:
        """The noun phrase that ends where the text does."""
        offset = max(0, len(self.content) - _MOST_WORDS)
        start, end = next((each.span for each in reversed(noun_phrases(self.content[offset:]))), (0, 0))
        return (offset + start, offset + end) if end and offset + end == len(self.content) else None

    def _region(self, box: Corners) -> str | None:
        """Which of the question's regions it is."""
        found = in_steps(box, self.size)
        for each in self.regions:
            asked = in_steps(each.query.box, self.size)
            if all(abs(one - other) <= _SAME for one, other in zip(found, asked, strict=True)):
                return each.id
        return None


def _in_pixels(numbers: Sequence[float], size: ImageSize) -> Corners | None:
    """Four coordinates -> xyxy pixels, clipped to the image; None where they are no box of it."""
    if not all(-_SLACK <= each <= STEPS + _SLACK for each in numbers):
        return None
    x1, y1, x2, y2 = (
        min(max(each, 0.0), STEPS) / STEPS * side for each, side in zip(numbers, (*size, *size), strict=True)
    )
    return (x1, y1, x2, y2) if x2 - x1 >= _LEAST_SIDE and y2 - y1 >= _LEAST_SIDE else None


def _labelled(text: str) -> list[tuple[str, list[float]]]:
    """The objects of a JSON text that have a label, with the numbers of their boxes; of one that is cut off, those
    that are whole."""
    found = []
    for each in _OBJECT.findall(text):
        try:
            value: dict[str, Any] = json.loads(each)
        except (ValueError, RecursionError):
            continue
        label = next((value[key] for key in ("label", "name", "text_content") if isinstance(value.get(key), str)), "")
        box: list[Any] = next(
            (value[key] for key in ("bbox_2d", "bbox", "box") if isinstance(value.get(key), list)), []
        )
        if label.strip():
            numbers = [float(number) for number in box if isinstance(number, int | float) and abs(number) < 1e6]
            found.append((label, numbers if len(numbers) == len(box) == 4 else []))
    return found

"""The legend of a drawing: per region its number, its title with a bar for the probability, and what else is known.

Below a wide image in columns of one height, beside a tall one in as many columns as it takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from dynrefer.model.drawing.annotations import Annotation, figure
from dynrefer.model.drawing.overlay import Overlay
from dynrefer.model.drawing.palette import INK, PALE_INK, PAPER, RULE, mark_of
from dynrefer.model.drawing.typefaces import legible
from dynrefer.model.drawing.typesetting import Type

_TITLE_LINES, _TEXT_LINES = 4, 3  # at most; the last one is shortened
_CROWDED = 12  # with more regions, each text has one line
_COLUMN = 19  # least width of a column, in sizes of the text
_MOST_BESIDE = 3  # columns beside an image, unless they would be longer than this many times the image
_LONGEST = 2.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """A region's place in the legend, its texts broken into lines. indent: pixels in front of them."""

    index: int
    title: list[str]
    probability: float | None
    texts: list[str]
    height: int


class Legend:
    """type size: pixels, of titles; the rest is smaller."""

    def __init__(self, annotations: Sequence[Annotation], size: int) -> None:
        self._annotations = annotations
        self._title, self._text, self._number = Type(size), Type(max(9, round(0.86 * size))), Type(size, bold=True)
        self._margin = round(0.8 * size)
        digits = len(str(max(len(annotations) - 1, 0)))
        self._indent = round(self._number.width("0" * digits) + 1.7 * size)
        self._bar = round(3.4 * size)

    def beside(self, image: Image.Image) -> Image.Image:
        """A new RGB image with the image at the left and the legend at its right."""
        width = max((_COLUMN + 3) * self._title.size, image.width // 3)
        entries = self._entries(width - 2 * self._margin)
        room = max(image.height, max((each.height for each in entries), default=0)) - 2 * self._margin
        columns = _filled(entries, room)
        if len(columns) > _MOST_BESIDE:
            columns = _balanced(entries, max(_MOST_BESIDE, -(-len(columns) * 10 // round(10 * _LONGEST))))
        height = max(image.height, max(map(_height, columns), default=0) + 2 * self._margin)
        canvas = Image.new("RGB", (image.width + width * len(columns), height), PAPER)
        canvas.paste(image)
        self._draw(canvas, columns, image.width, 0, width)
        return canvas

    def below(self, image: Image.Image, least_width: int) -> Image.Image:
        """A new RGB image with the legend below the image."""
        whole = max(image.width, least_width)
        count = max(1, min(whole // (_COLUMN * self._title.size), len(self._annotations)))
        columns = _balanced(self._entries(whole // count - 2 * self._margin), count)
        height = max(map(_height, columns), default=0) + 2 * self._margin
        canvas = Image.new("RGB", (whole, image.height + height), PAPER)
        canvas.paste(image, ((whole - image.width) // 2, 0))
        self._draw(canvas, columns, 0, image.height, whole // count)
        return canvas

    def _entries(self, width: int) -> list[_Entry]:
        """width: of a column, without its margins."""
        entries = []
        most = _TEXT_LINES if len(self._annotations) <= _CROWDED else 1
        for index, annotation in enumerate(self._annotations):
            room = width - self._indent
            bar = 0 if annotation.probability is None else self._bar + self._text.width(" 1.00") + self._margin
            title = self._title.wrapped(legible(annotation.title) or "—", max(room - bar, room / 3), _TITLE_LINES)
            texts = []
            for heading, text in annotation.lines:
                texts += self._text.wrapped(f"{heading}: {legible(text)}", room, most)
            height = len(title) * self._title.line_height + len(texts) * self._text.line_height + self._margin
            entries.append(_Entry(index, title, annotation.probability, texts, height))
        return entries

    def _draw(self, canvas: Image.Image, columns: Sequence[Sequence[_Entry]], left: int, top: int, width: int) -> None:
        overlay = Overlay()
        for place, column in enumerate(columns):
            x, y = left + place * width + self._margin, top + self._margin
            for entry in column:
                self._shapes(overlay, entry, (x, y), x + width - 2 * self._margin)
                y += entry.height
        overlay.onto(canvas)
        for place, column in enumerate(columns):
            x, y = left + place * width + self._margin, top + self._margin
            for entry in column:
                self._texts(canvas, entry, (x, y), x + width - 2 * self._margin)
                y += entry.height

    def _shapes(self, overlay: Overlay, entry: _Entry, corner: tuple[int, int], right: int) -> None:
        """The plate of the number, and the bar."""
        (x, y), size, mark = corner, self._title.size, mark_of(entry.index)
        wide = self._indent - 0.6 * size
        overlay.plate((x, y + 0.06 * size, x + wide, y + 1.32 * size), mark.colour, 0.3 * size)
        if entry.probability is None:
            return
        start, middle, half = right - self._bar, y + 0.72 * size, 0.17 * size
        overlay.plate((start, middle - half, right, middle + half), RULE, half)
        full = start + self._bar * min(max(entry.probability, 0.0), 1.0)
        if full - start > 1:
            overlay.plate((start, middle - half, full, middle + half), INK, half)

    def _texts(self, canvas: Image.Image, entry: _Entry, corner: tuple[int, int], right: int) -> None:
        (x, y), size, number = corner, self._title.size, str(entry.index)
        middle = x + (self._indent - 0.6 * size - self._number.width(number)) / 2
        self._number.draw(canvas, (middle, y), number, mark_of(entry.index).ink)
        if entry.probability is not None:
            said = figure(entry.probability)
            at = right - self._bar - 0.4 * size - self._text.width(said)
            self._text.draw(canvas, (at, y + 0.1 * size), said, INK)
        for line in entry.title:
            self._title.draw(canvas, (x + self._indent, y), line, INK)
            y += self._title.line_height
        for line in entry.texts:
            self._text.draw(canvas, (x + self._indent, y), line, PALE_INK)
            y += self._text.line_height


def _height(entries: Sequence[_Entry]) -> int:
    return sum(entry.height for entry in entries)


def _filled(entries: Sequence[_Entry], room: int) -> list[list[_Entry]]:
    """Columns no higher than the room, but where one entry alone is."""
    columns: list[list[_Entry]] = [[]]
    for entry in entries:
        if columns[-1] and _height(columns[-1]) + entry.height > room:
            columns.append([])
        columns[-1].append(entry)
    return columns


def _balanced(entries: Sequence[_Entry], count: int) -> list[list[_Entry]]:
    """At most so many columns, as low as they can be."""
    low, high = max((entry.height for entry in entries), default=0), max(_height(entries), 1)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(entries, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    return _filled(entries, high)

"""Lines of text in any script: their width, breaking and shortening, and the drawing of them.

What is set must be `typefaces.legible`. Lengths are in pixels of the image that is drawn on. Letters are drawn four
times as large and scaled down, so that they stand at fractions of a pixel: rounded to whole ones, small text is uneven.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from dynrefer.model.drawing.bidi import has_right_to_left, in_visual_order, is_right_to_left, levels
from dynrefer.model.drawing.typefaces import BOLD, FONTS, Face, covers, face_of, font, has_raqm

ELLIPSIS = "…"
LINE_HEIGHT = 1.36  # of the size: Noto Sans's ascent and descent
_ASCENT = 1.069
_FINER = 4
_MARGIN = 3  # pixels around a line, for what letters reach beyond it
_RIGHT_TO_LEFT_MARK = "\u200f"
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_SMALL_KANA = "ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"
Direction = Literal["ltr", "rtl"]


class _Part(NamedTuple):
    """A part of a line in one font and, where text is shaped, one direction."""

    text: str
    face: Face
    direction: Direction | None


class Type:
    """Text of one size. size: pixels from line to line, less a third. bold: for what is written in ASCII."""

    def __init__(self, size: int, *, bold: bool = False) -> None:
        self.size = size
        self.line_height = round(LINE_HEIGHT * size)
        self._bold = bold

    def width(self, text: str) -> float:
        """Of a line."""
        return sum(self._length(part) for part in self._parts(text))

    def draw(self, image: Image.Image, corner: tuple[float, float], text: str, colour: str) -> None:
        """Draw a line whose top left corner is there. image: RGB; changed in place."""
        left, top = int(corner[0]) - _MARGIN, int(corner[1]) - _MARGIN
        size = (int(self.width(text)) + 2 * _MARGIN + 2, self.line_height + 2 * _MARGIN + self.size // 2)
        large = Image.new("L", (size[0] * _FINER, size[1] * _FINER))
        pen = ImageDraw.Draw(large)
        x, baseline = corner[0] - left, round(corner[1] + _ASCENT * self.size) - top
        for part in self._parts(text):
            place = (x * _FINER, baseline * _FINER)
            pen.text(place, part.text, 255, self._font(part), anchor="ls", direction=part.direction)
            x += self._length(part)
        image.paste(Image.new("RGB", size, colour), (left, top), large.reduce(_FINER))

    def fitted(self, text: str, width: float) -> str:
        """The text, or as much of its beginning as fits with an ellipsis; nothing where not even that fits."""
        if self.width(text) <= width:
            return text
        pieces = list(clusters(text))
        low, high = 0, len(pieces)
        while low < high:  # the most pieces that fit
            middle = (low + high + 1) // 2
            if self.width(_shortened(pieces, middle)) <= width:
                low = middle
            else:
                high = middle - 1
        return _shortened(pieces, low) if low else ""

    def wrapped(self, text: str, width: float, most: int | None = None) -> list[str]:
        """The text in lines no wider than that, broken between words, or where it must be. most: lines; the last is
        shortened. One character is a line of its own however narrow the width is."""
        lines: list[str] = []
        line = ""
        for gap, word in _words(text):
            longer = f"{line}{gap}{word}" if line else word
            if self.width(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            *full, line = self._broken(word, width)
            lines += full
        lines.append(line)
        if most is not None and len(lines) > most:
            rest = " ".join(lines[most - 1 :])
            lines[most - 1 :] = [self.fitted(rest, width)]
        if is_right_to_left(text):  # a line may begin with a word that runs the other way
            lines = [line if is_right_to_left(line) else _RIGHT_TO_LEFT_MARK + line for line in lines]
        return lines

    def _broken(self, word: str, width: float) -> list[str]:
        """A word in pieces that fit, as long as they can be."""
        pieces, piece = [], ""
        for each in clusters(word):
            if piece and self.width(piece + each) > width:
                pieces.append(piece)
                piece = each
            else:
                piece += each
        return [*pieces, piece]

    def _parts(self, text: str) -> tuple[_Part, ...]:
        return _parts(text, bold=self._bold and text.isascii())

    def _length(self, part: _Part) -> float:
        return self._font(part).getlength(part.text, direction=part.direction) / _FINER

    def _font(self, part: _Part) -> ImageFont.FreeTypeFont:
        return font(part.face, self.size * _FINER)


def clusters(text: str) -> Iterator[str]:
    """Characters with the marks and joiners that belong to them, which must not be torn apart."""
    piece = ""
    for before, character in pairwise("\0" + text):
        joins = unicodedata.category(character)[0] == "M" or character in "\u200c\u200d" or before == "\u200d"
        # A virama ties the next consonant of an Indic script to this one.
        if piece and not joins and unicodedata.combining(before) != 9:
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


def _shortened(pieces: list[str], count: int) -> str:
    return "".join(pieces[:count]).rstrip(" \u00a0,.;:(") + ELLIPSIS


def _words(text: str) -> Iterator[tuple[str, str]]:
    """(what stands in front of it, word); where no spaces are written, each wide character is a word."""
    gap = ""
    for piece in re.split("( +)", text.strip()):
        if piece.isspace():
            gap = " "
            continue
        word = ""
        for each in clusters(piece):
            wide = word and (_is_wide(each) or _is_wide(word[-1]))
            if wide and not _clings(each) and unicodedata.category(word[-1]) not in ("Ps", "Pi"):
                yield gap, word
                gap, word = "", ""
            word += each
        if word:
            yield gap, word
        gap = ""


def _is_wide(cluster: str) -> bool:
    return unicodedata.east_asian_width(cluster[0]) in "WF"


def _clings(cluster: str) -> bool:
    """Whether a line must not begin with it: closing marks and small kana (JIS X 4051 names them)."""
    return unicodedata.category(cluster[0]) in ("Pe", "Pf", "Po") or cluster[0] in _SMALL_KANA


@lru_cache(maxsize=4096)
def _parts(text: str, *, bold: bool) -> tuple[_Part, ...]:
    """From left to right."""
    if bold:
        return (_Part(text, str(FONTS / BOLD), None),)
    faces = _faces(text)
    turned = has_right_to_left(text)
    if len(set(faces)) <= 1 and (has_raqm() or not turned):
        if not text:
            return ()
        direction: Direction = "rtl" if is_right_to_left(text) else "ltr"
        return (_Part(text, faces[0], direction if has_raqm() else None),)
    return tuple(_split(text, faces, levels(text) if turned else [0] * len(text)))


def _split(text: str, faces: list[Face], depths: list[int]) -> Iterator[_Part]:
    """Parts of one font and one direction each."""
    cuts = [
        place for place in range(1, len(text)) if (faces[place], depths[place]) != (faces[place - 1], depths[place - 1])
    ]
    spans = list(pairwise([0, *cuts, len(text)]))
    face_of_span = {text[start:end]: faces[start] for start, end in spans}
    for piece, depth in in_visual_order([(text[start:end], depths[start]) for start, end in spans]):
        if has_raqm():
            yield _Part(piece, face_of_span[piece], "rtl" if depth % 2 else "ltr")
        else:  # at least the order is right
            turned = "".join(reversed(list(clusters(piece)))).translate(_MIRRORED)
            yield _Part(turned if depth % 2 else piece, face_of_span[piece], None)


def _faces(text: str) -> list[Face]:
    """The font of each character; spaces, figures and signs stay in that of the letters before them."""
    faces: list[Face] = []
    for character in text:
        stays = faces and unicodedata.category(character)[0] != "L" and covers(faces[-1], character)
        faces.append(faces[-1] if stays else face_of(character) or str(FONTS / "NotoSans.ttf"))
    return faces

"""Which font has a character: those that ship, then the system's, then a readable replacement. Never a silent box.

The shipped fonts are parts of Noto Sans under the SIL Open Font License (fonts/OFL.txt, fonts/README.md). Pillow does
not tell which characters a font has; one that it lacks is drawn as the font's own sign for that, glyph 0, which is
recognised by its pixels.
"""

import logging
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

FONTS = Path(__file__).parent / "fonts"
TEXT, BOLD, CJK = "NotoSans.ttf", "NotoSans-Bold.ttf", "NotoSansCJK.otf"
SHIPPED = (str(FONTS / TEXT), str(FONTS / CJK))
# Fonts that many systems have and that hold many scripts, for systems without fontconfig.
_WELL_KNOWN = (
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansSymbols2-Regular.ttf",
    "Arial Unicode.ttf",
    "AppleSDGothicNeo.ttc",
    "Kohinoor.ttc",
    "seguisym.ttf",
    "Nirmala.ttf",
    "Nirmala.ttc",
    "DejaVuSans.ttf",
    "FreeSans.ttf",
    "unifont.ttf",
)
_PROBE_SIZE = 24  # pixels at which characters are compared with glyph 0
_NO_CHARACTER = "\U0010ffff"  # Unicode promises that no font has it
_FC_LIST_S = 5.0
# Joiners and direction marks take part in shaping; other invisible characters could turn what follows around.
_SHAPING = "\u200c\u200d\u200e\u200f"
_JOINED = re.compile(r"[^\S\u00a0]+")  # spaces, but those at which a line must not break

_log = logging.getLogger(__name__)

Face = str  # a font's file


def has_raqm() -> bool:
    """Whether text is shaped: joined Arabic, Indic clusters, right to left. Pillow then has found FriBiDi."""
    return bool(features.check("raqm"))


@lru_cache(maxsize=128)
def font(face: Face, size: int) -> ImageFont.FreeTypeFont:
    """A font at a size in pixels. Raises OSError for a file that is none, or that has no outlines."""
    engine = ImageFont.Layout.RAQM if has_raqm() else ImageFont.Layout.BASIC
    return ImageFont.truetype(face, size, layout_engine=engine)


def legible(text: str) -> str:
    """A text that some font can draw, in one line.

    Spaces are joined and invisible controls dropped. What no font has is said in brackets: "[Ethiopic]" in the place
    of letters, "[grinning face]" in that of a sign; then a warning tells what to install.
    """
    parts: list[str] = []
    for character in _JOINED.sub(" ", text).strip():
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn", "Co") and character not in _SHAPING:
            continue
        said = character if face_of(character) else f"[{_spoken(character)}]"
        if len(said) == 1 or not parts or parts[-1] != said:
            parts.append(said)
    return "".join(parts)


@lru_cache(maxsize=8192)
def face_of(character: str) -> Face | None:
    """The first font that has a character: of those that ship, else of the system; None where none has it."""
    if unicodedata.category(character) in ("Cf", "Zs"):
        return SHIPPED[0]  # drawn as nothing, or as room
    for face in SHIPPED:
        if covers(face, character):
            return face
    found = next((face for face in system_faces(character) if covers(face, character)), None)
    if found is None:
        _warn(_spoken(character))
    return found


@lru_cache(maxsize=8192)
def covers(face: Face, character: str) -> bool:
    """Whether a font has a character. False too for a file that cannot be read, or holds pictures of one size."""
    try:
        return _drawn(face, character) != _drawn(face, _NO_CHARACTER)
    except (OSError, ValueError):
        return False


def _drawn(face: Face, character: str) -> tuple[tuple[int, int], bytes]:
    mask = _probe(face).getmask(character)
    return mask.size, bytes(mask)


@lru_cache(maxsize=64)
def _probe(face: Face) -> ImageFont.FreeTypeFont:
    """Without shaping, which would set a mark that the font lacks on a dotted circle that it has."""
    return ImageFont.truetype(face, _PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)


def system_faces(character: str) -> Iterator[Face]:
    """Font files of the system that may have a character, likely ones first: asked of fontconfig, where it is."""
    command = shutil.which("fc-list")
    if command is None:
        yield from _WELL_KNOWN
        return
    try:
        asked = [command, f":charset={ord(character):x}", "file"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_FC_LIST_S, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return
    files = [line.strip().removesuffix(":").strip() for line in done.stdout.splitlines()]
    yield from sorted(filter(None, files), key=lambda file: (not re.search("(?i)sans.*regular", file), file))


def _spoken(character: str) -> str:
    """What a character is called: the script of a letter, the name of a sign."""
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    if name.startswith("CJK "):
        return "Chinese character"
    if unicodedata.category(character)[0] in "LMN":
        return name.split(" ")[0].capitalize()
    return name.lower()


@lru_cache(maxsize=256)
def _warn(name: str) -> None:
    """Once for each script or sign."""
    _log.warning(
        "no font here has '%s', so that a drawing says [%s] instead; install one, such as Debian's fonts-noto.",
        name,
        name,
    )

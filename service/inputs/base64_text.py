"""Base64 as clients send it -> bytes.

Taken is standard Base64 (RFC 4648, section 4), also as a `data:` URI and with line breaks, as MIME encoders write it.
Anything else is refused with what is wrong and where. Large texts are decoded in pieces, because decoding holds the
interpreter: nothing else, a liveness probe for one, would be answered meanwhile.
"""

import binascii
import io
import re
from collections.abc import Iterator

PIECE_BYTES = 1 << 20  # of text at a time; a multiple of 4
DATA_URI = re.compile(rb"data:[^,]{0,200},", re.IGNORECASE)
FOREIGN = re.compile(rb"[^A-Za-z0-9+/\r\n]")
LINE_BREAKS = b"\r\n"
EQUALS = ord("=")
# How Base64 of JPEG, PNG, GIF, WebP and BMP files begins.
IMAGES_BEGIN = (b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"Qk")


class Base64Error(ValueError):
    """Text that is not Base64. Its message says, as a clause, what is wrong and where."""


def decode_base64(text: bytes) -> bytes:
    """text: ASCII. Raises Base64Error."""
    head = DATA_URI.match(text[:256])
    start = head.end() if head else 0
    if head and not head[0][:-1].lower().endswith(b";base64"):
        raise Base64Error("is a data: URI without ';base64' before its comma")
    if not head and text[:5].lower() == b"data:":
        raise Base64Error("begins with 'data:' but has no comma after it")
    payload = _without_breaks(text[start:])
    decoded = io.BytesIO()
    try:
        for piece in _decoded(payload):
            decoded.write(piece)
    except binascii.Error:
        raise Base64Error(_fault(text, start)) from None
    return decoded.getvalue()


def is_base64_of_an_image(data: bytes) -> bool:
    """Whether what is to be an image's file is the text of one, as a data: URI or bare."""
    head = data[:256]
    if head[:5].lower() == b"data:":
        return True
    return head.startswith(IMAGES_BEGIN) and len(head) >= 64 and not FOREIGN.search(head.rstrip(b"=\r\n"))


def _without_breaks(text: bytes) -> bytes:
    if b"\n" not in text and b"\r" not in text:
        return text
    pieces = (text[at : at + PIECE_BYTES].translate(None, LINE_BREAKS) for at in range(0, len(text), PIECE_BYTES))
    return b"".join(pieces)


def _decoded(payload: bytes) -> Iterator[bytes]:
    view = memoryview(payload)
    for at in range(0, len(payload), PIECE_BYTES):
        piece = view[at : at + PIECE_BYTES]
        decoded = binascii.a2b_base64(piece, strict_mode=True)
        if len(decoded) * 4 != len(piece) * 3 and at + PIECE_BYTES < len(payload):
            raise binascii.Error("padding before the end")
        yield decoded


def _fault(text: bytes, start: int) -> str:
    """What is wrong with a text that cannot be decoded. start: where its Base64 begins."""
    end = len(text.rstrip(LINE_BREAKS))
    at = _first_foreign(text, start, end)
    if at is not None and (text[at] != EQUALS or text[at:end].strip(b"=\r\n")):
        return _foreign_fault(text[at], f"character {at + 1}")
    length = len(_without_breaks(text[start:at]))
    padding = 0 if at is None else text.count(b"=", at, end)
    if length % 4 == 1:
        return f"is cut short: {length} characters are no whole number of bytes"
    missing = -length % 4 - padding
    return f"lacks '{'=' * missing}' at its end" if missing > 0 else "has too many '=' at its end"


def _first_foreign(text: bytes, start: int, end: int) -> int | None:
    for at in range(start, end, PIECE_BYTES):
        if found := FOREIGN.search(text, at, min(at + PIECE_BYTES, end)):
            return found.start()
    return None


def _foreign_fault(code: int, place: str) -> str:
    character = chr(code)
    if character in "-_":
        return f"has '{character}' as {place}: that is the URL alphabet; write '+' for '-' and '/' for '_'"
    if character == " ":
        return f"has a space as {place}; a '+' becomes one where a form is decoded"
    if character == "=":
        return f"has '=' as {place}, before its end"
    shown = f"'{character}'" if 33 <= code < 127 else f"the byte {code:#04x}"
    return f"has {shown} as {place}, which is no character of Base64"

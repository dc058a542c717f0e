"""A multipart form's bytes -> the parts `image`, of which there may be several, and `request`.

The body is in memory already, within max_body_bytes, so that nothing is spooled to disk: the service runs on a
read-only file system.
"""

import difflib

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import printable

PARTS = ("image", "request")
PARTS_SENTENCE = "a form has the parts 'image' and 'request' and no others"
# What people call the part with the image elsewhere.
ALIASES = {
    "file": "image",
    "photo": "image",
    "picture": "image",
    "upload": "image",
    "json": "request",
    "data": "request",
}


class _Collector:
    """The parser's callbacks: collects the parts. most: images."""

    def __init__(self, most: int) -> None:
        self.parts: dict[str, list[bytearray]] = {name: [] for name in PARTS}
        self._most = {"image": most, "request": 1}
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._current = bytearray()
        self.finished = False

    def on_part_begin(self) -> None:
        self._disposition = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InvalidRequestError.at("", "A part of the form has no name in its Content-Disposition.")
        name = options[b"name"].decode("utf-8", "replace")
        if name not in PARTS:
            raise InvalidRequestError.at("", _unknown_part(name))
        if len(self.parts[name]) == self._most[name]:
            often = "twice" if self._most[name] == 1 else f"more than {self._most[name]} times"
            raise InvalidRequestError.at(_pointer(name), f"The form has the part '{name}' {often}.")
        self._current = bytearray()
        self.parts[name].append(self._current)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._current += memoryview(data)[start:end]

    def on_end(self) -> None:
        self.finished = True


def split_form(body: bytes, content_type: str, most_images: int = 1) -> tuple[list[bytes], bytes]:
    """The form's (images, request). Raises InvalidRequestError for a form that is malformed, lacks a part or has more
    of one than there may be."""
    boundary = _boundary(content_type)
    collector = _Collector(most_images)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.on_part_begin,
                "on_header_field": collector.on_header_field,
                "on_header_value": collector.on_header_value,
                "on_header_end": collector.on_header_end,
                "on_headers_finished": collector.on_headers_finished,
                "on_part_data": collector.on_part_data,
                "on_end": collector.on_end,
            },
        )
        parser.write(_without_preamble(body, boundary))
        parser.finalize()
    except FormParserError:
        raise InvalidRequestError.at("", "The multipart form is not well formed.") from None
    if not collector.finished:
        raise InvalidRequestError.at("", "The multipart form is cut short.")
    for name in PARTS:
        if not collector.parts[name]:
            raise InvalidRequestError.at(_pointer(name), f"The form lacks the part '{name}'.")
    return [bytes(image) for image in collector.parts["image"]], bytes(collector.parts["request"][0])


def _boundary(content_type: str) -> bytes:
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequestError.at("", "The Content-Type of a multipart form must state its boundary.")
    return boundary


def _without_preamble(body: bytes, boundary: bytes) -> bytes:
    """From the first boundary on: text in front of it is to be ignored (RFC 2046, section 5.1.1)."""
    line = b"--" + boundary
    begin = 0 if body.startswith(line) else body.find(b"\n" + line) + 1
    # A line that only begins like the boundary is a part of the text.
    while body[begin + len(line) : begin + len(line) + 1] not in (b"\r", b"-", b" ", b"\t"):
        begin = body.find(b"\n" + line, begin) + 1
        if not begin:
            return body
    return body[begin:] if begin else body


def _unknown_part(name: str) -> str:
    nearest = difflib.get_close_matches(name[:64].lower(), [*PARTS, *ALIASES], n=1)
    hint = f"did you mean '{ALIASES.get(nearest[0], nearest[0])}'?" if nearest else f"{PARTS_SENTENCE}."
    return f"The part '{printable(name)}' is unknown; {hint}"


def _pointer(part: str) -> str:
    """JSON pointers lead into the request document, in which only the image has a place of its own."""
    return "/image" if part == "image" else ""

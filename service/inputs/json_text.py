"""The bytes of a JSON document -> values. Strict where JSON parsers are lenient, and bounded before it is parsed.

Parsing holds the interpreter, so that nothing else is answered meanwhile, a liveness probe for one. Long texts in
Base64 are therefore cut out first, and stay bytes; what is left has a limited size, depth and number of values.
"""

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynrefer.service.errors import InvalidRequestError

MAX_DEPTH = 100
MAX_BYTES_PER_VALUE = 16  # on average, of the JSON outside of Base64
VALUES_PER_OBJECT = 5  # at least, on average: a region counts as six
MIN_CUT_BYTES = 4_096
MAX_CUTS = 256
PIECE_BYTES = 1 << 20
MAX_INT_BYTES = 131_072  # a document that is larger may hold numbers that take long to read
MAX_EXACT_DIGITS = 1_000
MAX_DIGITS = 4_300  # beyond it Python refuses

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # RFC 8259, section 8.1, lets a reader ignore it; editors on Windows write it
BASE64_MEMBERS = ("base64", "png")  # of the service's own contract: an image, or a region's mask
# Its text, or the first one of a list of them, which may be nested.
VALUE_BEGINS = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*(?P<list>(?:\[[ \t\r\n]*){0,4})"')
ITEM_BEGINS = re.compile(rb'[ \t\r\n]*,[ \t\r\n]*"')
ORDINARY = bytes(code for code in range(0x20, 0x7F) if code not in b'\\"')
NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Json:
    """A parsed document. long_texts: what stands in the document for a long text in Base64 -> its bytes, ASCII."""

    document: Any
    long_texts: dict[str, bytes] = field(default_factory=dict)

    def bytes_of(self, text: str) -> bytes:
        """The bytes of a text of the document, UTF-8."""
        return self.long_texts[text] if text in self.long_texts else text.encode("utf-8")


@dataclass(frozen=True, slots=True)
class _Cut:
    """A long text that was cut out. at: where its placeholder begins in the bytes that are left; saved: bytes."""

    at: int
    saved: int


def parse_json(
    body: bytes,
    max_values: int,
    name: str = "The body",
    glance: Callable[[Any], None] = lambda document: None,
    base64_members: Sequence[str] = BASE64_MEMBERS,
) -> Json:
    """Strict JSON: UTF-8, no duplicate keys, no lone surrogates, limited depth, size and number of values.

    name: of the document, as the subject of a sentence. glance: may refuse a document of very many objects for a better
    reason than that; what it sees was read without care for duplicate keys, which takes long for many objects.
    base64_members: names (letters and "_") of members whose texts may be as long as an image's file; what stands in
    others counts towards the size.
    NaN, Infinity and 1e400 are accepted as floats here: the schema rejects them, with a pointer to where they are.
    Raises InvalidRequestError.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    rest, long_texts, cuts = _cut_long_texts(body, name, base64_members)
    if len(rest) > max_values * MAX_BYTES_PER_VALUE:
        limit = max_values * MAX_BYTES_PER_VALUE
        raise _refused(f"The JSON holds more than {limit} bytes outside of '{base64_members[0]}'.")
    openers = rest.count(b"[") + rest.count(b"{")
    if rest.count(b",") + openers > max_values:
        raise _refused(f"The JSON holds more than {max_values} values.")
    max_objects = max_values // VALUES_PER_OBJECT
    too_many = rest.count(b"{") > max_objects
    try:
        text = rest.decode("utf-8")
        if openers > MAX_DEPTH and _may_be_deep(rest):
            _check_depth(text)
        whole_number = _whole_number if len(rest) > MAX_INT_BYTES else int
        document = json.loads(text, object_pairs_hook=None if too_many else _unique_keys, parse_int=whole_number)
        if ESCAPED_SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise _too_deep() from None
    except UnicodeError:
        hint = "; it looks like UTF-16" if b"\0" in body[:4] else ""
        raise _refused(f"The JSON is not valid UTF-8 text{hint}.") from None
    except json.JSONDecodeError as error:
        raise _refused(f"{name} is not valid JSON: {_place(error, cuts)}: {_what(error)}.") from None
    except ValueError:
        raise _refused(f"{name} is not valid JSON: a number has too many digits.") from None
    if too_many:
        glance(document)
        raise _refused(f"The JSON holds more than {max_objects} objects.")
    return Json(document, long_texts)


def _cut_long_texts(body: bytes, name: str, members: Sequence[str]) -> tuple[bytes, dict[str, bytes], list[_Cut]]:
    """The body with a short placeholder for every long text of one of the members, and those texts.

    A list of texts is followed up to the first that is not long, so that short ones cost nothing.

    In valid JSON the name and the colon can stand nowhere but in front of a value: inside of a text its quotes would be
    escaped.
    """
    long_texts: dict[str, bytes] = {}
    cuts: list[_Cut] = []
    kept, length, done, at = [], 0, 0, 0
    opening = re.compile(b'"(?:%s)"' % "|".join(members).encode())
    while len(cuts) < MAX_CUTS and (member := opening.search(body, at)):
        at = member.end()
        begins = VALUE_BEGINS.match(body, at)
        listed = begins is not None and begins["list"] != b""
        while begins and len(cuts) < MAX_CUTS:
            start = begins.end()
            end = _end_of_text(body, start, name)
            if end - start < MIN_CUT_BYTES or not _can_be_cut(body, start, end):
                break
            placeholder = secrets.token_hex(8)
            length += start - done + len(placeholder)
            cuts.append(_Cut(length - len(placeholder), end - start - len(placeholder)))
            kept += [body[done:start], placeholder.encode()]
            long_texts[placeholder] = _unescaped(body, start, end, name, member[0].decode().strip('"'))
            done = at = end
            begins = ITEM_BEGINS.match(body, end + 1) if listed else None
    if not cuts:
        return body, long_texts, cuts
    return b"".join([*kept, body[done:]]), long_texts, cuts


def _end_of_text(body: bytes, start: int, name: str) -> int:
    """Where the next quote is. Raises InvalidRequestError where there is none."""
    end = body.find(b'"', start)
    if end < 0:
        line, column = body.count(b"\n", 0, start) + 1, start - body.rfind(b"\n", 0, start) - 1
        raise _refused(f"{name} is not valid JSON: line {line}, column {column}: this text has no end.")
    return end


def _can_be_cut(body: bytes, start: int, end: int) -> bool:
    """Whether a text holds nothing that could make the document invalid, but for escapes."""
    if body[end - 1] == ord("\\"):  # an escaped quote is not the text's end
        return False
    pieces = (body[at : min(at + PIECE_BYTES, end)] for at in range(start, end, PIECE_BYTES))
    return not any(piece.translate(None, ORDINARY).strip(b"\\") for piece in pieces)


def _unescaped(body: bytes, start: int, end: int, name: str, member: str) -> bytes:
    if body.find(b"\\", start, end) < 0:
        return body[start:end]
    pieces, at = [], start
    while at < end:
        until = min(at + PIECE_BYTES, end)
        if until < end:  # no escape is cut in two
            last = body.rfind(b"\\", until - 6, until)
            until = last if last > at else until
        try:
            pieces.append(json.loads(b'"%s"' % body[at:until]).encode("utf-8", "replace"))
        except ValueError:
            raise _refused(f"{name} is not valid JSON: the text of '{member}' has an unknown escape.") from None
        at = until
    return b"".join(pieces)


def _may_be_deep(rest: bytes) -> bool:
    """A quick look that takes brackets inside of texts for brackets. Where those hide others, the parser's own limit of
    depth holds."""
    brackets = rest.translate(None, NO_BRACKETS)
    while len(brackets) > MAX_DEPTH:  # what is left nests no deeper than it is long
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) > len(brackets) * 7 // 8:
            return True
        brackets = inner
    return False


def _check_depth(text: str) -> None:
    depth = 0
    for token in TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif first in "]}":
            depth -= 1


def _whole_number(digits: str) -> int | float:
    """Reading digits takes the square of their number; of so many no field takes the exact value."""
    return int(digits) if len(digits) <= MAX_EXACT_DIGITS or len(digits) > MAX_DIGITS else float(digits)


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _refused(f"The key '{printable(duplicate)}' occurs twice in one object.")
    return members


def _place(error: json.JSONDecodeError, cuts: Sequence[_Cut]) -> str:
    """Line and column in the client's own text, both from 1."""
    until = len(error.doc[: error.pos].encode("utf-8"))
    line_begins = len(error.doc[: error.doc.rfind("\n", 0, error.pos) + 1].encode("utf-8"))
    column = error.colno + sum(cut.saved for cut in cuts if line_begins <= cut.at < until)
    return f"line {error.lineno}, column {column}"


def _what(error: json.JSONDecodeError) -> str:
    """What is wrong, in our words."""
    text, at = error.doc, error.pos
    if not text.strip():
        return "it is empty"
    if error.msg.startswith("Unterminated string"):
        return "this text has no end"
    if error.msg.startswith("Invalid control character"):
        return "a control character, such as a line break, stands in a text"
    if error.msg.startswith(("Invalid \\escape", "Invalid \\uXXXX")):
        return "an unknown escape"
    if error.msg.startswith("Extra data"):
        return "the document has ended before this"
    if not text[at:].strip():
        return "it ends too early"
    if text[at] == "'":
        return "names and texts stand in double quotes"
    before, after = text[:at].rstrip(), text[at + 1 :].lstrip()
    if (text[at] in "]}" and before.endswith(",")) or (text[at] == "," and after.startswith(("]", "}"))):
        return "a comma stands before a closing bracket"
    return f"unexpected '{printable(text[at])}'"


def printable(text: str) -> str:
    """A client's text, shortened and encodable, for use in an error message."""
    return text[:64].encode("utf-8", "replace").decode("utf-8")


def _too_deep() -> InvalidRequestError:
    return _refused("The JSON is nested too deeply.")


def _refused(detail: str) -> InvalidRequestError:
    return InvalidRequestError.at("", detail)

"""JSON documents: what is strict, what is bounded, and that errors name the place in the client's own text."""

import base64
import json
from typing import Any

import pytest

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import MAX_BYTES_PER_VALUE, MIN_CUT_BYTES, PIECE_BYTES, parse_json

MAX_VALUES = 1_000
LONG = base64.b64encode(bytes(range(256)) * (PIECE_BYTES // 256)).decode()


def refusal(text: str | bytes) -> str:
    with pytest.raises(InvalidRequestError) as error:
        parse_json(text.encode() if isinstance(text, str) else text, MAX_VALUES)
    assert [each.pointer for each in error.value.fields] == [""]
    return error.value.detail


@pytest.mark.parametrize("length", [0, MIN_CUT_BYTES - 1, MIN_CUT_BYTES, len(LONG)])
@pytest.mark.parametrize("escape", [str, lambda text: text.replace("/", "\\/").replace("+", "\\u002B")])
def test_base64_of_any_length(length: int, escape: Any) -> None:
    text = '{"image": {"base64" : "%s"}, "a": [1, 2.5]}'.replace("%s", escape(LONG[:length]))
    found = parse_json(text.encode(), MAX_VALUES)
    assert found.bytes_of(found.document["image"]["base64"]).decode() == LONG[:length]
    assert found.document["a"] == [1, 2.5]


@pytest.mark.parametrize(
    ("texts", "cut"),
    [([LONG], 1), ([LONG, LONG + "AAAA", "short", LONG], 2), (["short", LONG], 0), ([LONG, '"', LONG], 1), ([], 0)],
)
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n", " : ")])
def test_texts_of_a_list_may_be_long_too(texts: list[str], cut: int, separators: tuple[str, str]) -> None:
    """Those before a short one are cut out; the others are texts like any."""
    for value in (texts, [texts]):
        parsed = parse_json(json.dumps({"base64": value, "a": 1}, separators=separators).encode(), 10**6)
        found = parsed.document["base64"] if value is texts else parsed.document["base64"][0]
        assert [parsed.bytes_of(text).decode() for text in found] == texts
        assert (len(parsed.long_texts), parsed.document["a"]) == (cut, 1)


def test_a_list_that_does_not_end_is_refused() -> None:
    for rest in ("", ",", ', "'):
        with pytest.raises(InvalidRequestError, match="not valid JSON"):
            parse_json(f'{{"base64": ["{LONG}"{rest}'.encode(), MAX_VALUES)


def test_a_contract_has_its_image_in_a_member_of_its_own() -> None:
    """More of it than any text may have is read, and what is wrong with it is said of that member."""
    body = json.dumps({"image": LONG, "base64": LONG}).encode()
    parsed = parse_json(body, len(LONG) // MAX_BYTES_PER_VALUE + 10, base64_members=("image",))
    assert parsed.document["base64"] == LONG != parsed.document["image"]
    assert parsed.bytes_of(parsed.document["image"]) == LONG.encode()
    with pytest.raises(InvalidRequestError, match="bytes outside of 'image'"):
        parse_json(body, 10, base64_members=("image",))
    with pytest.raises(InvalidRequestError, match="the text of 'image' has an unknown escape"):
        parse_json(body.replace(LONG[:8].encode(), b"\\xAA", 1), 10_000, base64_members=("image",))


def test_what_only_looks_like_base64_stays_a_text() -> None:
    texts = ["base64", '"base64": "' + LONG, LONG, '\\"base64": ' + LONG]
    found = parse_json(json.dumps({"a": texts[:2], "base64": texts}).encode(), 10**9)
    assert not found.long_texts and found.document == {"a": texts[:2], "base64": texts}


def test_a_byte_order_mark_is_ignored() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', MAX_VALUES).document == {"a": 1}
    assert "it looks like UTF-16" in refusal('{"a": 1}'.encode("utf-16"))
    assert "line 1, column 1" in refusal(b"\xef\xbb\xbf\xef\xbb\xbf{}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1, column 1: it is empty"),
        (" \n ", "it is empty"),
        ("{", "line 1, column 2: it ends too early"),
        ('{"a": [1,\n2', "line 2, column 2: it ends too early"),
        ("{'a': 1}", "line 1, column 2: names and texts stand in double quotes"),
        ('{"a": [1, 2],}', "a comma stands before a closing bracket"),
        ('{"a":\n [1, 2,]}', "line 2"),
        ("[object Object]", "line 1, column 2: unexpected 'o'"),
        ('{"a": True}', "line 1, column 7: unexpected 'T'"),
        ('{"é": "ü", x}', "line 1, column 12: unexpected 'x'"),
        ("{} {}", "line 1, column 4: the document has ended before this"),
        ('{"a": "x\ny"}', "a control character, such as a line break"),
        ('{"a": "x', "line 1, column 7: this text has no end"),
        ('{"a": "\\x"}', "an unknown escape"),
        ("1" * 5_000, "too many digits"),
        ('{"image": {"base64": "%s'.replace("%s", LONG), "line 1, column 22: this text has no end"),
        ('{"image": {"base64": "%s\n"}}'.replace("%s", LONG[:5_000]), "line 1, column 5023: a control character"),
        ('{"image": {"base64": "%s"}, }'.replace("%s", LONG), f"line 1, column {len(LONG) + 27}"),
        ('{"é":\n{"base64": "%s"}, }'.replace("%s", LONG), f"line 2, column {len(LONG) + 17}"),
        ('{"image": {"base64": "%s"},\n }'.replace("%s", LONG), "line 2, column 2"),
    ],
)
def test_errors_name_their_place(text: str, fault: str) -> None:
    detail = refusal(text)
    assert detail.startswith("The body is not valid JSON") and fault in detail


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 101, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"a":' * 500 + "[" * 400, "nested too deeply"),
        ("[" + "1," * 1_001 + "1]", "more than 1000 values"),
        ("[" + "{}," * 250 + "1]", "more than 200 objects"),
        (" " * 16_001, "more than 16000 bytes outside of 'base64'"),
        ('{"base64": "%s"}'.replace("%s", "é" * 16_000), "more than 16000 bytes"),
        ('{"base64": "' + LONG + '\\""}', "more than 16000 bytes"),
        ('{"a": 1, "a": 1}', "'a' occurs twice"),
        ('{"base64": "%s", "base64": "%s"}'.replace("%s", LONG), "'base64' occurs twice"),
        ('{"a": "\\ud800"}', "not valid UTF-8"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
    ],
)
def test_bounds(text: str | bytes, fault: str) -> None:
    assert fault in refusal(text)


def test_brackets_in_texts_nest_nothing() -> None:
    assert parse_json(json.dumps(["[" * 500, '"[{' * 100]).encode(), MAX_VALUES).document
    assert parse_json(b"[" * 100 + b"]" * 100, MAX_VALUES).document


def test_long_numbers_are_read_in_bounded_time() -> None:
    found = parse_json(b"[%s, %s 12]" % (b"9" * 4_000, b" " * 200_000), 10**6).document
    assert found == [float("inf"), 12]

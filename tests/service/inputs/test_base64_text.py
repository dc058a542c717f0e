"""Base64 as clients send it."""

import base64
import random

import pytest

from dynrefer.service.inputs.base64_text import PIECE_BYTES, Base64Error, decode_base64, is_base64_of_an_image
from tests.service.conftest import image_bytes

DATA = random.Random(1).randbytes(PIECE_BYTES + 1)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 100, PIECE_BYTES * 3 // 4, len(DATA)])
def test_every_way_of_writing_it(length: int) -> None:
    data = DATA[:length]
    plain = base64.b64encode(data)
    for text in (
        plain,
        plain + b"\n",
        base64.encodebytes(data),
        base64.encodebytes(data).replace(b"\n", b"\r\n"),
        b"\r\n" + plain,
        b"data:image/png;base64," + plain,
        b"DATA:image/svg+xml;charset=utf-8;BASE64," + base64.encodebytes(data),
        b"data:;base64," + plain,
    ):
        assert decode_base64(text) == data


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"QUI", "lacks '=' at its end"),
        (b"QQ\n", "lacks '==' at its end"),
        (b"QQ=", "lacks '=' at its end"),
        (b"QUJDR", "cut short: 5 characters"),
        (b"QU\nJD\nQU-D", "has '-' as character 9: that is the URL alphabet"),
        (b"QU_D", "has '_' as character 3"),
        (b"QU D", "has a space as character 3; a '+' becomes one"),
        (b"QQ==QUJD", "has '=' as character 3, before its end"),
        (b"=", "too many '='"),
        (b"QU\tD", "the byte 0x09 as character 3"),
        ("QÜJD".encode(), "the byte 0xc3 as character 2"),
        (b"@@@@", "has '@' as character 1"),
        (b"data:image/png,QUJD", "without ';base64'"),
        (b"data:image/png;base64QUJD", "no comma"),
        (b"data:image/png;base64,QU-D", "'-' as character 25"),
        (b"A" * (PIECE_BYTES + 3) + b"?", f"has '?' as character {PIECE_BYTES + 4}"),
        (b"\n" * 2 * PIECE_BYTES + b"?", f"has '?' as character {2 * PIECE_BYTES + 1}"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, fault: str) -> None:
    with pytest.raises(Base64Error) as error:
        decode_base64(text)
    assert fault in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_base64_is_not_taken_for_a_file(kind: str) -> None:
    image = image_bytes(kind)
    assert not is_base64_of_an_image(image)
    assert is_base64_of_an_image(base64.b64encode(image)) and is_base64_of_an_image(base64.encodebytes(image))
    assert is_base64_of_an_image(b"data:image/png;base64," + base64.b64encode(image))

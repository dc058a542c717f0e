"""What may be given as an image: the service must see the pixels that `DynRefer` would."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.model import QueryError, decode_image, upright_pixels
from dynrefer.service.client.image_bytes import image_bytes, is_address
from tests.service.conftest import image_bytes as encoded
from tests.service.conftest import turned_image_bytes

NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_bytes_are_sent_as_they_are(wrap: Any) -> None:
    assert image_bytes(wrap(b"whatever")) == b"whatever"


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded("JPEG"))
    assert image_bytes(path) == image_bytes(str(path)) == encoded("JPEG")


def test_an_array_loses_nothing() -> None:
    assert (decode_image(image_bytes(NOISE), None).pixels == NOISE).all()


# Modes that Pillow makes of another one alone.
FROM = {"I;16": "L", "La": "LA", "PA": "P"}


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F", "La", "PA"]
)
def test_a_pillow_image_gives_the_pixels_that_the_model_would_take(mode: str) -> None:
    image = Image.fromarray(NOISE).convert(FROM.get(mode, "RGB")).convert(mode)
    try:
        expected = upright_pixels(image)
    except QueryError as error:  # of a mode whose range is not clear
        with pytest.raises(QueryError, match=re.escape(str(error))):
            image_bytes(image)
    else:
        assert np.array_equal(decode_image(image_bytes(image), None).pixels, expected)


def test_transparency_is_kept_for_masks() -> None:
    image = Image.new("RGBA", (4, 3), (10, 20, 30, 0))
    assert Image.open(io.BytesIO(image_bytes(image))).getpixel((0, 0)) == (10, 20, 30, 0)


def test_a_turned_pillow_image_stays_turned() -> None:
    image = Image.open(io.BytesIO(turned_image_bytes()))
    found = decode_image(image_bytes(image), None)
    assert found.info.orientation == 6 and (found.info.width, found.info.height) == (48, 64)
    assert np.array_equal(found.pixels, upright_pixels(image))


@pytest.mark.parametrize(
    "image", [3, None, [1, 2], np.zeros((3, 4)), np.zeros((3, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_anything_else_is_refused(image: Any) -> None:
    with pytest.raises(QueryError, match="image must be"):
        image_bytes(image)


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(FileNotFoundError):
        image_bytes("a\0b")


@pytest.mark.parametrize(
    ("image", "found"),
    [("https://a.example/x.png", True), ("HTTP://a.example", True), ("https.png", False), (Path("https://a"), False)],
)
def test_addresses(image: Any, found: bool) -> None:
    assert is_address(image) is found

"""The eight EXIF orientations: pixels and boxes agree with Pillow, with each other, and there and back."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from dynrefer.model.exif import orientation_of
from dynrefer.model.orientation import TURNS, stored_box, stored_size, stored_view, upright_box, upright_view
from dynrefer.model.types import ImageInfo

STORED = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)  # 7 wide, 5 high
BOXES = [(0.0, 0.0, 7.0, 5.0), (1.0, 2.0, 4.0, 3.0), (0.0, 4.0, 1.0, 5.0), (2.5, 0.25, 6.0, 4.5), (-3.0, 1.0, 9.0, 2.0)]


def info_of(orientation: int) -> ImageInfo:
    height, width = upright_view(STORED, orientation).shape[:2]
    return ImageInfo(width, height, orientation)


def test_the_orientations_are_those_of_exif() -> None:
    assert list(TURNS) == list(range(1, 9)) and len(set(TURNS.values())) == 8


@pytest.mark.parametrize("orientation", TURNS)
def test_pixels_are_turned_as_pillow_turns_them(orientation: int) -> None:
    image = Image.fromarray(STORED)
    image.getexif()[0x0112] = orientation
    assert (upright_view(STORED, orientation) == np.asarray(ImageOps.exif_transpose(image))).all()
    assert (stored_view(upright_view(STORED, orientation), orientation) == STORED).all()
    assert stored_size(info_of(orientation)) == (7, 5)


@pytest.mark.parametrize("orientation", TURNS)
def test_a_box_holds_the_same_pixels_in_both_frames(orientation: int) -> None:
    info, upright = info_of(orientation), upright_view(STORED, orientation)
    for x1, y1, x2, y2 in ((0, 0, 7, 5), (1, 2, 4, 3), (0, 4, 1, 5), (3, 0, 7, 1)):
        a, b, c, d = (int(value) for value in upright_box((x1, y1, x2, y2), info))
        assert sorted(upright[b:d, a:c].ravel()) == sorted(STORED[y1:y2, x1:x2].ravel())


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("box", BOXES)
def test_there_and_back(orientation: int, box: tuple[float, float, float, float]) -> None:
    info = info_of(orientation)
    assert stored_box(upright_box(box, info), info) == box
    assert upright_box(stored_box(box, info), info) == box


@pytest.mark.parametrize("orientation", TURNS)
def test_an_inverted_box_stays_inverted(orientation: int) -> None:
    x1, y1, x2, y2 = upright_box((4.0, 3.0, 1.0, 2.0), info_of(orientation))
    assert x1 > x2 and y1 > y2


@pytest.mark.parametrize("value", [6, "6", b"\x06", 6.0])
def test_an_orientation_is_read_however_it_was_stored(value: object) -> None:
    assert orientation_of(value) == 6

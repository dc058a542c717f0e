"""The frame of boxes: what the boxes prove, what the listed size says, and what the user says."""

from __future__ import annotations

import pytest

from dynrefer.model.errors import AnnotatedImageError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.types import Corners, ImageInfo
from dynrefer.workbench.data.frames import Frame, is_stored, upright_boxes

PHONE = ImageInfo(200, 300, 6)  # stored as 300 x 200
BOTH: Corners = (10, 10, 100, 100)
UPRIGHT_ONLY: Corners = (20, 220, 120, 290)
STORED_ONLY: Corners = (220, 20, 290, 120)
NEITHER: Corners = (250, 250, 299, 299)


@pytest.mark.parametrize(
    ("listed", "boxes", "stored"),
    [
        (None, [BOTH], False),
        ((200, 300), [BOTH], False),
        ((300, 200), [BOTH], True),
        ((300, 200), [BOTH, UPRIGHT_ONLY], False),  # the exporter lists the stored size of an image shown upright
        ((200, 300), [STORED_ONLY, BOTH], True),
        (None, [STORED_ONLY], True),
        ((300, 200), [NEITHER], True),  # proves nothing
        (None, [NEITHER, BOTH], False),
        ((300, 200), [(100, 100, 200.9, 200.9)], True),  # a pixel too far is rounding, no proof
        ((300, 200), [(100, 100, 200.0, 201.5)], False),
    ],
)
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_boxes_decide_then_the_listed_size(
    listed: ImageSize | None, boxes: list[Corners], stored: bool, orientation: int
) -> None:
    assert is_stored(ImageInfo(200, 300, orientation), listed, boxes, Frame.AUTO) is stored


def test_boxes_that_contradict_each_other_are_named() -> None:
    with pytest.raises(
        AnnotatedImageError, match=r"\(20, 220, 120, 290\) .* upright .*\(220, 20, 290, 120\) .* stored"
    ):
        is_stored(PHONE, None, [UPRIGHT_ONLY, BOTH, STORED_ONLY], Frame.AUTO)
    assert is_stored(PHONE, None, [UPRIGHT_ONLY, STORED_ONLY], Frame.STORED)
    assert not is_stored(PHONE, None, [UPRIGHT_ONLY, STORED_ONLY], Frame.UPRIGHT)


def test_the_user_has_the_last_word() -> None:
    assert is_stored(PHONE, (200, 300), [UPRIGHT_ONLY], Frame.STORED)
    assert not is_stored(PHONE, (300, 200), [STORED_ONLY], Frame.UPRIGHT)
    assert not is_stored(ImageInfo(200, 300, 1), (200, 300), [BOTH], Frame.STORED)  # the two are one


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_turns_that_keep_the_size_are_for_the_user_to_name(orientation: int) -> None:
    info = ImageInfo(200, 300, orientation)
    assert not is_stored(info, (200, 300), [BOTH], Frame.AUTO) and is_stored(info, None, [BOTH], Frame.STORED)


@pytest.mark.parametrize("listed", [(300, 200), (9, 9)])
def test_a_listed_size_that_is_no_frames(listed: ImageSize) -> None:
    with pytest.raises(AnnotatedImageError, match="it is 200 x 300 pixels, but listed as"):
        is_stored(ImageInfo(200, 300, 3), listed, [], Frame.AUTO)


def test_boxes_are_turned_with_their_image() -> None:
    assert upright_boxes([(0, 0, 30, 20)], PHONE, stored=True) == ((180, 0, 200, 30),)
    assert upright_boxes([BOTH], PHONE, stored=False) == (BOTH,)

"""Prompts: the boxes of the recorded cases, and prompts in the place of boxes in Python."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.arguments import listed_boxes, prompts_among, region_queries, with_prompts
from dynrefer.model.errors import PromptError
from dynrefer.model.geometry import box_from_polygons
from dynrefer.model.mask_files import decode_with_alpha, mask_of_png
from dynrefer.model.masks import RegionMask, bitmap_from_mask, mask_from_bitmap
from dynrefer.model.prompts import AlphaMask, AlphaOrWhole, MaskFile, Polygon, Scribble, placed
from dynrefer.model.run_lengths import box_from_rle
from tests.repository import ROOT

SIZE = (640, 426)
CASES = json.loads((ROOT / "tests" / "goldens" / "edge_cases.json").read_text("utf-8"))["cases"]
CASES = [case for case in CASES if "seg" in case]
# What the official code takes, and its decoder then fails on or sees one pixel of; a client's mistake.
LINES = [case["name"] for case in CASES if isinstance(case["seg"], list) and len(case["seg"][0]) < 6]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_recorded_cases_have_the_official_box(case: dict[str, Any]) -> None:
    segmentation = case["seg"]
    if isinstance(segmentation, dict):
        mask = RegionMask(tuple(segmentation["size"]), segmentation["counts"])
        assert placed(mask, SIZE)[0] == box_from_rle(segmentation)
    elif case["name"] in LINES:
        with pytest.raises(PromptError):
            placed(Polygon(tuple(map(tuple, segmentation))), SIZE)
    else:
        assert placed(Polygon(tuple(map(tuple, segmentation))), SIZE)[0] == box_from_polygons(segmentation)


def test_prompts_stand_in_the_place_of_boxes() -> None:
    bitmap = np.zeros((426, 640), dtype=bool)
    bitmap[10:31, 5:9] = True
    buffer = io.BytesIO()
    Image.fromarray(bitmap).save(buffer, "PNG")
    given = listed_boxes(
        iter([(1, 2, 3, 4), Scribble(((5, 5, 9, 30),)), mask_from_bitmap(bitmap), MaskFile(buffer.getvalue())])
    )
    queries = region_queries(given, None, (), None, 10, None)
    found = with_prompts(queries, prompts_among(given), SIZE)
    assert [query.box for query in found] == [(1, 2, 3, 4), (5, 5, 9, 30), (5, 10, 8, 30), (5, 10, 8, 30)]
    assert all(query.mask is None and query.flaw is None for query in found)
    shown = with_prompts(
        region_queries(given[2:], None, (), None, 10, None, highlight=True), prompts_among(given[2:]), SIZE
    )
    for query in shown:
        assert query.mask is not None and np.array_equal(bitmap_from_mask(query.mask), bitmap)


def test_what_is_wrong_with_a_prompt_is_its_querys_flaw() -> None:
    given = [(1, 2, 3, 4), Polygon(((5, 5, 9, 9),)), Scribble(((5, 5, 9, 9),))]
    queries = region_queries(given, None, (), None, 10, None, highlight=True)
    first, second, third = with_prompts(queries, prompts_among(given), SIZE)
    assert first.flaw is None and second.flaw is not None and second.flaw.field == "polygon"
    assert third.flaw is not None and third.flaw.field == "highlight"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_alpha_is_turned_with_its_image(orientation: int) -> None:
    alpha = np.zeros((20, 30), dtype=np.uint8)
    alpha[2:9, 4:25] = 128
    image = Image.new("RGB", (30, 20), (200, 100, 0))
    image.putalpha(Image.fromarray(alpha))
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(buffer, "PNG", exif=exif)
    found = decode_with_alpha(buffer.getvalue(), 10_000)
    assert found.info.alpha is not None
    # Composited over white, what is transparent is white.
    assert np.array_equal(bitmap_from_mask(found.info.alpha), (found.pixels != 255).any(axis=2))
    size = found.info.width, found.info.height
    assert placed(AlphaMask(), size, found.info.alpha)[0][2] > 0
    assert placed(AlphaOrWhole(), size, found.info.alpha) == placed(AlphaMask(), size, found.info.alpha)


def test_an_alpha_channel_that_hides_nothing_may_stand_for_the_whole_image() -> None:
    for alpha in (None, mask_from_bitmap(np.ones((20, 30), dtype=bool))):
        assert placed(AlphaOrWhole(), (30, 20), alpha) == ((0, 0, 30, 20), None)
        with pytest.raises(PromptError):
            placed(AlphaMask(), (30, 20), alpha)
    hidden = mask_from_bitmap(np.zeros((20, 30), dtype=bool))
    with pytest.raises(PromptError, match="empty"):
        placed(AlphaOrWhole(), (30, 20), hidden)


def test_the_brightest_channel_counts() -> None:
    values = np.zeros((4, 6, 3), dtype=np.uint8)
    values[1, 2], values[2, 4], values[3, 5] = (0, 128, 0), (127, 127, 127), (255, 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    rows, columns = np.nonzero(bitmap_from_mask(mask_of_png(buffer.getvalue(), (6, 4))))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(1, 2), (3, 5)]

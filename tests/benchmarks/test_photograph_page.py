"""The page on photographs: which are shown, how large they are, and what the table of totals says."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.photograph_page import (
    LABELLED,
    LONGEST,
    MOST_BYTES,
    OF_LABELLED,
    SCIKIT_IMAGE,
    TOTALS,
    evenly_spaced,
    labelled,
    picture,
    scikit_image,
    totals_table,
)
from dynrefer.model import RegionDescription
from dynrefer.model.tasks.caption import Caption
from dynrefer.workbench.data.photographs import LabelledBox, LabelledPhotograph, Split, read_photographs
from tests.repository import DOCS, ROOT

PAGE = ROOT / "docs" / "photographs.md"


def test_the_first_the_last_and_even_steps_between_in_the_order_of_names() -> None:
    box = (LabelledBox((0.0, 0.0, 1.0, 1.0), ("dog",)),)
    names = [f"{letter}.jpg" for letter in "gfedcba"]
    photographs = [LabelledPhotograph(Path(name), (1, 1), "CC0-1.0", Split.TEST, box) for name in names]
    assert [each.path.stem for each in evenly_spaced(photographs, 3)] == ["a", "d", "g"]
    assert [each.path.stem for each in evenly_spaced(photographs, 7)] == list("abcdefg")


@pytest.mark.skipif(not LABELLED.is_dir(), reason="there is no benchmarks/photographs")
def test_only_photographs_of_the_test_split_are_shown_and_with_all_their_boxes() -> None:
    shown = {each.name: each for each in labelled(LABELLED)}
    tests = {each.path.stem: each for each in read_photographs(LABELLED) if each.split is Split.TEST}
    assert len(shown) == OF_LABELLED and shown.keys() <= tests.keys()
    assert all(each.boxes == tests[name].boxes for name, each in shown.items())


@pytest.mark.skipif(not PAGE.is_file(), reason="there are no docs")
def test_the_page_shows_every_photograph_in_a_small_picture() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [*SCIKIT_IMAGE, *(each.name for each in labelled(LABELLED))]
    assert page.count("\n## ") == len(names) + 1  # and the totals
    for name in names:
        assert f"](images/photograph_{name}.jpg)" in page
        assert (DOCS / f"photograph_{name}.jpg").stat().st_size <= MOST_BYTES


def test_the_boxes_of_scikit_images_photographs_lie_inside() -> None:
    for shown in scikit_image():
        width, height = shown.pixels.size
        for x1, y1, x2, y2 in (each.box for each in shown.boxes):
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


def test_a_picture_that_jpeg_compresses_badly_is_stored_with_less_quality() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(100, 156, (480, 640, 3)).astype(np.uint8))
    caption = Caption("a dog", 0.5, -0.7, -0.2, "dog", 0.9)
    found = RegionDescription(box=(10, 10, 200, 200), clipped=False, plan=None, plans={}, results={"caption": caption})
    stored = picture(noise, [found])
    assert len(stored) <= MOST_BYTES
    assert Image.open(io.BytesIO(stored)).size == (LONGEST, LONGEST * 3 // 4)


def test_totals_are_given_with_their_errors_one_column_per_set() -> None:
    result = {name: 0.5 for name, _ in TOTALS} | {
        "colour_right": None,
        "standard_errors": {name: 0.05 for name, _ in TOTALS} | {"colour_right": None},
        "calibration_error": {"name": 0.07},
        "gate": {"photographs": {"photograph": 3, "drawing": 1}},
        "boxes": 4,
        "photographs": 2,
    }
    table = totals_table({"own": result, "other": result | {"gate": {}}})
    rows = table.splitlines()
    assert rows[0] == "| of the boxes | own: 4 boxes in 2 photographs | other: 4 boxes in 2 photographs |"
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert ".50 ± .05 | .50 ± .05" in table and "not measured" in table and "drawing: 1, photograph: 3" in table

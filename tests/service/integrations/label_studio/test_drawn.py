"""Regions as Label Studio writes them, and the masks of its brush."""

import json
import random
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrefer.model import bitmap_from_mask
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.integrations.label_studio.brushes import Bitmap, BrushError, read_brush, write_brush
from dynrefer.service.integrations.label_studio.drawn import Drawn, drawn_regions
from dynrefer.service.integrations.label_studio.labeling import Labeling
from tests.service.integrations.environments import python_with

WIDTH, HEIGHT = 200, 100
LABELING = Labeling("image", "image")
MAX_PIXELS = 1_000_000


def item(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"id": "r", "from_name": "f", "to_name": "image", "type": kind, "value": value, **size, **more}


def one(kind: str, value: Any, **more: Any) -> Drawn:
    (found,) = drawn_regions([item(kind, value, **more)], LABELING, MAX_PIXELS)
    return found


def test_a_rectangle_is_a_box_in_parts_of_a_hundred() -> None:
    found = one("rectanglelabels", {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0})
    assert found.prompt == {"box": [10, 20, 40, 60]}
    assert found.box(WIDTH, HEIGHT) == (20, 20, 80, 60)


def test_a_turned_rectangle_is_a_polygon_turned_where_pixels_are_square() -> None:
    # 40 x 10 pixels at (100, 50), turned by a quarter: it hangs down to the left of that corner.
    found = one("rectangle", {"x": 50, "y": 50, "width": 20, "height": 10, "rotation": 90})
    assert found.box(WIDTH, HEIGHT) == pytest.approx((90, 50, 100, 90))
    assert len(found.prompt["polygon"]) == 4


def test_polygons_ellipses_and_points() -> None:
    ring = [[0, 0], [50, 0], [50, 100]]
    assert one("polygonlabels", {"points": ring, "closed": True}).prompt == {"polygon": ring}
    ellipse = one("ellipse", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0})
    assert ellipse.box(WIDTH, HEIGHT) == pytest.approx((80, 30, 120, 70))
    point = one("keypointlabels", {"x": 5, "y": 6, "width": 0.4})
    assert point.prompt == {"points": [{"x": 5, "y": 6}]} and point.box(WIDTH, HEIGHT) is None


def test_items_of_other_kinds_and_images_are_left_out() -> None:
    others: list[Any] = [
        item("choices", {"choices": ["a"]}),
        {**item("rectangle", {}), "to_name": "text"},
        None,
        "text",
    ]
    assert drawn_regions(others, LABELING, MAX_PIXELS) == []
    assert drawn_regions(None, LABELING, MAX_PIXELS) == []


BOX = {"x": 1, "y": 1, "width": 1, "height": 1}


@pytest.mark.parametrize(
    ("kind", "value", "more", "at"),
    [
        ("rectangle", None, {}, "/0/value"),
        ("rectangle", {**BOX, "x": "1"}, {}, "/0/value/x"),
        ("rectangle", {**BOX, "width": True}, {}, "/0/value/width"),
        ("rectangle", {**BOX, "y": float("nan")}, {}, "/0/value/y"),
        ("rectangle", {**BOX, "rotation": 3}, {"original_width": None}, "/0/original_width"),
        ("polygon", {"points": [[1, 2], [3]]}, {}, "/0/value/points"),
        ("polygon", {}, {}, "/0/value/points"),
        ("ellipse", {"x": 1, "y": 1}, {}, "/0/value/radiusX"),
        ("brush", {"rle": "text"}, {}, "/0/value/rle"),
        ("brush", {"rle": [256]}, {}, "/0/value/rle"),
        ("brush", {"rle": [0] * 9}, {"original_height": 1 << 30}, "/0/original_width"),
        ("brush", {"rle": [0] * 9}, {"original_height": 100_000}, "/0/value/rle"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_with_their_place(
    kind: str, value: Any, more: dict[str, Any], at: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        one(kind, value, **more)
    assert [each.pointer for each in refused.value.fields] == [at]


def bitmap(given: list[int], width: int, height: int) -> Bitmap:
    """The pixels of a member `rle`."""
    return bitmap_from_mask(read_brush(given, width, height, MAX_PIXELS).mask)


def masks() -> list[Any]:
    chance = np.random.default_rng(3)
    noise = chance.random((7, 11)) < 0.5
    large = np.zeros((300, 500), dtype=bool)
    large[20:280, 50:450] = True
    return [noise, large, np.zeros((5, 4), dtype=bool), np.ones((1, 1), dtype=bool), np.ones((400, 300), dtype=bool)]


def test_a_brush_reads_what_it_writes() -> None:
    for mask in masks():
        height, width = mask.shape
        assert np.array_equal(bitmap(write_brush(mask), width, height), mask)
    found = one(
        "brushlabels", {"format": "rle", "rle": write_brush(np.pad(np.ones((50, 60), bool), ((10, 40), (20, 120))))}
    )
    assert found.box(WIDTH, HEIGHT) == (20, 10, 80, 60)
    assert found.prompt["mask"]["size"] == [HEIGHT, WIDTH]


def test_any_mask_is_read_with_its_bounds() -> None:
    chance = np.random.default_rng(11)
    for _ in range(200):
        height, width = chance.integers(1, 9, 2)
        mask = chance.random((height, width)) < chance.random()
        brush = read_brush(write_brush(mask), int(width), int(height), MAX_PIXELS)
        assert np.array_equal(bitmap_from_mask(brush.mask), mask)
        ys, xs = np.nonzero(mask)
        assert brush.bounds == ((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if ys.size else None)


def test_what_a_brush_takes_follows_from_its_list_and_not_from_the_size_that_it_says() -> None:
    side = 8_000  # a bitmap would take 64 MB
    bits = f"{side * side * 4:032b}00111" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    left = side * side * 4
    while left:
        part = min(left, 1 << 16)
        bits += f"111{part - 1:016b}{255 if left > side * side * 2 else 0:08b}"
        left -= part
    bits += "0" * (-len(bits) % 8)
    given = list(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    tracemalloc.start()
    brush = read_brush(given, side, side, side * side)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert brush.bounds is not None and brush.bounds[3] == pytest.approx(side / 2, abs=2)
    assert peak < 16_000_000


def test_a_brush_of_very_many_edges_is_refused() -> None:
    stripes = np.zeros((HEIGHT, WIDTH), bool)
    stripes[::2] = True
    with pytest.raises(BrushError, match="more than 5000 edges"):
        read_brush(write_brush(stripes), WIDTH, HEIGHT, MAX_PIXELS, 5_000)
    # And of all of a task's brushes.
    stripes = np.zeros((400, 1_000), bool)
    stripes[::2] = True
    size = {"original_width": 1_000, "original_height": 400}
    items = [{**item("brush", {"rle": write_brush(stripes)}), **size, "id": str(place)} for place in range(2)]
    assert len(drawn_regions(items[:1], LABELING, MAX_PIXELS)) == 1
    with pytest.raises(InvalidRequestError, match="edges along its columns") as refused:
        drawn_regions(items, LABELING, MAX_PIXELS)
    assert refused.value.fields[0].pointer == "/1/value/rle"


def test_brushes_have_a_limit_in_all() -> None:
    large = {"rle": write_brush(np.zeros((HEIGHT, WIDTH), bool))}
    items = [{**item("brush", large), "id": str(number)} for number in range(9)]
    assert len(drawn_regions(items[:8], LABELING, HEIGHT * WIDTH)) == 8
    with pytest.raises(InvalidRequestError, match="more than 160000 pixels in all"):
        drawn_regions(items, LABELING, HEIGHT * WIDTH)


def test_a_damaged_brush_is_refused() -> None:
    good = write_brush(masks()[0])
    chance = random.Random(5)
    for length in range(len(good)):
        with pytest.raises(BrushError):
            read_brush(good[:length], 11, 7, MAX_PIXELS)
    for _ in range(500):
        bad = list(good)
        bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            assert bitmap(bad, 11, 7).shape == (7, 11)
        except BrushError as error:
            assert str(error)


SCRIPT = """
import json, sys
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
masks, ours = json.load(sys.stdin)
theirs = [mask2rle(np.array(mask, dtype=np.uint8) * 255) for mask in masks]
read = [decode_rle(each).tolist() for each in ours]
json.dump([theirs, read], sys.stdout)
"""


@pytest.mark.heavy
@pytest.mark.system
def test_label_studios_own_library_reads_and_writes_the_same_masks(tmp_path: Path) -> None:
    given = masks()
    asked = json.dumps([[mask.astype(int).tolist() for mask in given], [write_brush(mask) for mask in given]])
    python = str(python_with("label-studio"))
    answer = subprocess.run([python, "-c", SCRIPT], input=asked, capture_output=True, text=True, check=True).stdout
    theirs, read = json.loads(answer)
    for mask, written, values in zip(given, theirs, read, strict=True):
        height, width = mask.shape
        assert np.array_equal(bitmap(written, width, height), mask)
        assert np.array_equal(np.array(values).reshape(height, width, 4)[..., 3] > 0, mask)

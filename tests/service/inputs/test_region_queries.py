"""Boxes as a request writes them -> boxes of the upright image."""

import pickle
import subprocess
import sys

import pytest

from dynrefer.model import BoxFormat, ImageInfo, RegionQuery
from dynrefer.service.inputs.region_queries import BoxNotation, Coordinates, Orientation, region_queries
from tests.repository import ROOT

INFO = ImageInfo(width=640, height=400)


@pytest.mark.parametrize(
    ("coordinates", "box"),
    [
        (Coordinates.PIXELS, (64, 100, 320, 300)),
        (Coordinates.UNIT, (0.1, 0.25, 0.5, 0.75)),
        (Coordinates.PERCENT, (10, 25, 50, 75)),
        (Coordinates.PER_MILLE, (100, 250, 500, 750)),
    ],
)
def test_coordinates(coordinates: Coordinates, box: tuple[float, ...]) -> None:
    x1, y1, x2, y2 = box
    size = (x2 - x1, y2 - y1)
    written = {
        BoxFormat.XYXY: box,
        BoxFormat.XYWH: (x1, y1, *size),
        BoxFormat.CXCYWH: ((x1 + x2) / 2, (y1 + y2) / 2, *size),
    }
    for box_format, values in written.items():
        corners = BoxNotation(box_format, coordinates).corners(values, INFO)
        assert corners == pytest.approx((64, 100, 320, 300))


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, (10, 20, 30, 60)),
        (2, (610, 20, 630, 60)),
        (3, (610, 340, 630, 380)),
        (4, (10, 340, 30, 380)),
        (5, (20, 10, 60, 30)),
        (6, (580, 10, 620, 30)),
        (7, (580, 370, 620, 390)),
        (8, (20, 370, 60, 390)),
    ],
)
def test_boxes_of_the_stored_frame(orientation: int, expected: tuple[float, ...]) -> None:
    info = ImageInfo(640, 400, orientation)
    width, height = (400, 640) if orientation > 4 else (640, 400)  # as stored
    stored = BoxNotation(orientation=Orientation.STORED)
    assert stored.corners((10, 20, 30, 60), info) == expected
    unit = BoxNotation(coordinates=Coordinates.UNIT, orientation=Orientation.STORED)
    assert unit.corners((10 / width, 20 / height, 30 / width, 60 / height), info) == pytest.approx(expected)
    assert BoxNotation().corners((10, 20, 30, 60), info) == (10, 20, 30, 60)


def test_all_else_is_asked_of_every_region() -> None:
    query = RegionQuery((0, 0, 0, 0), controls=("street",), top_k=3)
    found = region_queries([(1, 2, 3, 4), (5, 6, 7, 8)], BoxNotation(), query, INFO)
    assert [each.box for each in found] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert all((each.controls, each.top_k) == (("street",), 3) for each in found)
    assert pickle.loads(pickle.dumps((region_queries, BoxNotation(), query)))


@pytest.mark.parametrize(
    ("coordinates", "box", "hint"),
    [
        (Coordinates.PIXELS, (0.1, 0.2, 0.5, 0.6), '"normalized": true'),
        (Coordinates.PIXELS, (0.1, 0.2, 50, 60), ""),
        (Coordinates.UNIT, (64, 100, 320, 300), "0 to 1."),
        (Coordinates.PERCENT, (640, 100, 700, 300), "0 to 100."),
        (Coordinates.UNIT, (1.1, 0.5, 1.2, 0.6), ""),
    ],
)
def test_hints(coordinates: Coordinates, box: tuple[float, ...], hint: str) -> None:
    found = BoxNotation(coordinates=coordinates).hint(box)
    assert hint in found and bool(hint) == bool(found)


def test_a_worker_process_loads_neither_torch_nor_the_schemas() -> None:
    code = (
        "import sys, dynrefer.service.inputs.region_queries; print(*{'torch', 'pydantic', 'fastapi'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

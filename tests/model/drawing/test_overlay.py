"""Smooth lines and shapes."""

import math

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.drawing.overlay import Overlay, dashed, rounded


def drawn(overlay: Overlay, size: tuple[int, int] = (300, 300)) -> np.ndarray:
    image = Image.new("RGB", size, "white")
    overlay.onto(image)
    return np.asarray(image.convert("L")).astype(int)


def test_a_slanted_line_is_smooth_and_crosses_bands() -> None:
    overlay = Overlay()
    overlay.line([(10, 10), (290, 280)], "#000000", 4)
    values = drawn(overlay)
    assert len(np.unique(values)) > 10  # grey at its edges
    assert all(values[y].min() < 60 for y in range(20, 270))  # without a gap where bands meet


def test_a_line_has_its_width() -> None:
    overlay = Overlay()
    overlay.line([(0, 150), (300, 150)], "#000000", 6)
    assert (255 - drawn(overlay)[:, 150]).sum() / 255 == pytest.approx(6, abs=0.5)


def test_later_shapes_lie_on_earlier_ones_and_colours_are_exact() -> None:
    overlay = Overlay()
    overlay.plate((10, 10, 100, 100), "#000000", 8)
    overlay.plate((30, 30, 60, 60), "#ffffff", 0)
    values = drawn(overlay)
    assert values[20, 50] == 0 and values[45, 45] == 255 and values[10, 10] > 200


def test_nothing_is_drawn_without_shapes() -> None:
    assert (drawn(Overlay()) == 255).all()


def test_dashes_have_their_lengths() -> None:
    pieces = dashed([(0, 0), (50, 0), (50, 50)], [10, 5])
    lengths = [sum(math.dist(*pair) for pair in zip(piece, piece[1:], strict=False)) for piece in pieces]
    assert len(pieces) == 7 and lengths == pytest.approx([10] * 7)
    assert pieces[3] == [(45, 0), (50, 0), (50, 5)]  # around the corner


def test_a_rounded_box_is_closed_and_within_the_box() -> None:
    points = rounded((10, 20, 110, 70), 12)
    assert points[0] == points[-1]
    xs, ys = zip(*points, strict=True)
    assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((10, 20, 110, 70))
    assert math.dist((10, 20), min(points, key=lambda point: math.dist(point, (10, 20)))) > 4
    assert len(rounded((0, 0, 3, 3), 50)) > 4  # no larger than half a side

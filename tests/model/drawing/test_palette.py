"""Colours: text on them is legible, and nobody confuses two, the colour-blind included."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from dynrefer.model.drawing.palette import COLOURS, INK, PALE_INK, PAPER, contrast, linear, mark_of, red_green_blue

# What dichromats see, in linear sRGB at full severity: G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE TVCG 15 (2009), table 1.
VISION = {
    "trichromacy": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Linear sRGB -> cones, and cube roots of cones -> Oklab: B. Ottosson, https://bottosson.github.io/posts/oklab/ (2020).
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
APART = 0.07  # in Oklab; a just noticeable difference is about 0.02


def seen(colour: str, vision: str) -> NDArray[np.float64]:
    """In Oklab, where distances are those that people see."""
    light = VISION[vision] @ [linear(value) for value in red_green_blue(colour)]
    return np.asarray(OKLAB @ np.cbrt(CONES @ light.clip(0.0, 1.0)))


@pytest.mark.parametrize("vision", VISION)
def test_no_two_colours_are_confused(vision: str) -> None:
    for first, second in combinations(COLOURS, 2):
        distance = np.linalg.norm(seen(first, vision) - seen(second, vision))
        assert distance > APART, f"{first} and {second}: {distance:.3f}"


def test_a_common_orange_and_green_would_be_confused() -> None:
    assert np.linalg.norm(seen("#ff7f0e", "protanopia") - seen("#2ca02c", "protanopia")) < APART / 5


@pytest.mark.parametrize("index", range(len(COLOURS)))
def test_text_on_a_plate_is_legible(index: int) -> None:
    mark = mark_of(index)
    assert contrast(mark.ink, mark.colour) >= 4.5


def test_text_on_paper_is_legible() -> None:
    assert contrast(INK, PAPER) > 15 and contrast(PALE_INK, PAPER) >= 4.5


def test_the_contrast_of_the_specification() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_regions_beyond_the_colours_have_dashes() -> None:
    marks = [mark_of(index) for index in range(4 * len(COLOURS))]
    assert len(set(marks)) == len(marks)
    assert not any(mark.dash for mark in marks[: len(COLOURS)]) and all(mark.dash for mark in marks[len(COLOURS) :])

"""The colour of a photographed object: where it looks, what it says, and when it stays silent.

The numbers here are a plain naming by hand (each name's score falls with the distance from one colour), so that the
tests do not depend on what was fitted.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.colour import (
    COLOURS,
    PROPERTIES,
    ColourParameters,
    activation_map,
    cell_colours,
    find_object,
    leads,
    read_colour,
)

SIDE = 224
TYPICAL = {
    "red": (200, 20, 30),
    "orange": (245, 140, 20),
    "yellow": (240, 220, 40),
    "green": (40, 150, 50),
    "blue": (30, 70, 200),
    "purple": (120, 40, 160),
    "pink": (250, 150, 190),
    "brown": (110, 65, 30),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "beige": (215, 195, 160),
}


def filled(colour):
    return np.broadcast_to(np.array(colour, dtype=np.uint8)[:, None, None], (3, SIDE, SIDE)).copy()


def mapping(**changes):
    """Minus 60 times the squared distance in OKLab (chroma counts fourfold), written in the properties."""
    naming = np.zeros((PROPERTIES, len(COLOURS)))
    for place, name in enumerate(COLOURS):
        lightness, a, b = (float(value[0]) for value in cell_colours(filled(TYPICAL[name]))[0])
        a, b = 4 * a, 4 * b
        naming[0, place] = -60 * (lightness**2 + a**2 + b**2)
        naming[[1, 5, 6], place] = 120 * lightness, 120 * a, 120 * b
        naming[[2, 9, 10], place] = -60
    values = {
        "naming": naming.tolist(),
        "peak": 1.5,
        "whole": 1.5,
        "rim": 0.5,
        "bias": [0.0] * len(COLOURS),
        "none": -2.0,
        "scale": 1.0,
        "lead": 0.0,
        "offset": 0.0,
        "threshold": 0.8,
    }
    return values | changes


PARAMETERS = ColourParameters.from_mapping(mapping())


def scene(object_colour, background, noise=6, side=SIDE):
    """A disc in the middle of a crop, which its box touches. uint8 (3, side, side)."""
    down, across = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    inside = down**2 + across**2 < 0.9
    picture = np.where(inside[..., None], object_colour, background).astype(np.float64)
    picture += np.random.default_rng(0).normal(0, noise, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8).transpose(2, 0, 1).copy()


def middle():
    place = np.linspace(-1, 1, 7)
    return np.maximum(0, 1 - place[:, None] ** 2 - place[None, :] ** 2).astype(np.float32)


@pytest.mark.parametrize("name", COLOURS)
def test_a_disc_of_each_colour_is_named(name):
    background = TYPICAL["green"] if name != "green" else TYPICAL["gray"]
    reading = read_colour(scene(TYPICAL[name], background), middle(), PARAMETERS)
    assert reading.said == name
    assert reading.probabilities.shape == (len(COLOURS),)
    assert reading.probabilities.dtype == np.float32
    assert COLOURS[int(reading.probabilities.argmax())] == name
    assert 0 <= reading.probabilities.min() <= reading.probabilities.max() <= 1


def test_the_background_is_not_the_object():
    """The map points at the left; the object is a third of the crop, green grass is the rest."""
    crop = scene(TYPICAL["green"], TYPICAL["green"])
    crop[:, 40:190, 10:90] = scene(TYPICAL["red"], TYPICAL["red"])[:, 40:190, 10:90]
    activation = np.zeros((7, 7), dtype=np.float32)
    activation[2:5, 1:2] = 1
    assert read_colour(crop, activation, PARAMETERS).said == "red"


def test_many_colours_are_no_colour():
    crop = scene(TYPICAL["red"], TYPICAL["gray"])
    for place, name in enumerate(("yellow", "blue", "green", "purple")):
        crop[:, :, 32 + 40 * place : 72 + 40 * place] = filled(TYPICAL[name])[:, :, :40]
    assert read_colour(crop, middle(), PARAMETERS).said is None


def test_a_spot_under_the_peak_of_the_map_makes_it_unsure():
    crop = scene(TYPICAL["blue"], TYPICAL["white"])
    peak = np.zeros((7, 7), dtype=np.float32)
    peak[3, 3] = 1
    sure = read_colour(crop, peak, PARAMETERS)
    crop[:, 96:128, 96:128] = filled(TYPICAL["red"])[:, :32, :32]
    unsure = read_colour(crop, peak, PARAMETERS)
    blue = COLOURS.index("blue")
    assert sure.said == "blue"
    assert unsure.probabilities[blue] < sure.probabilities[blue] - 0.2


def test_a_lead_is_over_the_best_other_name():
    found = leads(np.array([0.59, 0.29, 0.04] + [0.0] * 9))
    assert found[:3] == pytest.approx(np.log([0.6 / 0.3, 0.3 / 0.6, 0.05 / 0.6]))


def test_nothing_is_said_below_the_threshold():
    crop, high = scene(TYPICAL["red"], TYPICAL["gray"]), ColourParameters.from_mapping(mapping(threshold=0.999))
    assert read_colour(crop, middle(), PARAMETERS).said == "red"
    assert read_colour(crop, middle(), high).said is None


def test_stripes_do_not_become_their_mean():
    crop = scene(TYPICAL["white"], TYPICAL["green"], noise=0)
    inside = crop[1] == TYPICAL["white"][1]
    crop[:, inside & (np.arange(SIDE) // 4 % 2 == 0)] = TYPICAL["black"][0]
    reading = read_colour(crop, middle(), PARAMETERS)
    assert reading.said != "gray"


def test_more_of_the_weight_lies_on_the_object_than_the_map_has():
    crop = scene(TYPICAL["orange"], TYPICAL["blue"])
    inside = np.asarray(Image.fromarray(crop[0]).reduce(8)).reshape(-1) > 140
    activation = middle() + 0.3
    shares = find_object(cell_colours(crop)[0], activation)
    assert shares.whole @ inside > 0.95
    assert shares.peak @ inside > 0.99
    assert shares.rim @ inside < 0.1
    for part in shares:
        assert part.shape == (784,)
        assert part.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0, 255])
def test_flat_crops_and_an_empty_map_have_numbers(value):
    """Nothing may divide by zero: warnings are errors here."""
    crop = np.full((3, SIDE, SIDE), value, dtype=np.uint8)
    with np.errstate(all="raise", under="ignore"):
        reading = read_colour(crop, np.zeros((7, 7), dtype=np.float32), PARAMETERS)
    assert np.isfinite(reading.probabilities).all()
    assert COLOURS[int(reading.probabilities.argmax())] == ("black" if value == 0 else "white")


def test_the_map_is_the_weighted_sum_cut_off_at_zero():
    rng = np.random.default_rng(1)
    features, weights = rng.random((1280, 7, 7), dtype=np.float32), rng.normal(size=1280).astype(np.float32)
    found = activation_map(features, weights)
    assert found.shape == (7, 7)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert np.allclose(found, np.maximum(np.einsum("c,chw->hw", weights, features), 0), atol=1e-3)


def test_a_reading_does_not_change_its_arguments():
    crop, activation = scene(TYPICAL["red"], TYPICAL["gray"]), middle()
    before = crop.copy(), activation.copy()
    first = read_colour(crop, activation, PARAMETERS)
    assert np.array_equal(crop, before[0])
    assert np.array_equal(activation, before[1])
    assert np.array_equal(read_colour(crop, activation, PARAMETERS).probabilities, first.probabilities)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshhold": 0.5}, "unknown key 'threshhold'"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1"),
        ({"threshold": "high"}, "threshold must hold finite numbers"),
        ({"scale": float("nan")}, "scale must hold finite numbers"),
        ({"none": True}, "none must hold finite numbers"),
        ({"bias": [0.0]}, "bias must hold 12 numbers"),
        ({"bias": 1.0}, "bias must be a list"),
        ({"naming": [[0.0] * 12]}, "naming must hold 22 rows of 12"),
    ],
)
def test_parameters_are_strict(changes, message):
    with pytest.raises(ConfigError, match=message):
        ColourParameters.from_mapping(mapping(**changes))


def test_a_missing_parameter_is_named():
    values = mapping()
    del values["rim"]
    with pytest.raises(ConfigError, match="colour has no 'rim'"):
        ColourParameters.from_mapping(values)


def test_importing_it_loads_no_torch():
    code = "import sys; import dynrefer.model.evidence.colour; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Drawing or photograph: the residual, the six numbers, and settings that do not fit."""

import numpy as np
import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.gate import NUMBERS, DrawnFeatures, Gate, entropy, numbers

WIDTH = 8
DRAWN = DrawnFeatures(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32), np.eye(WIDTH, dtype=np.float32)[:2])
EVEN, CERTAIN = np.full((1, 4), 0.25, np.float32), np.eye(4, dtype=np.float32)[:1]
SETTINGS = {"weights": [1.0] * 6, "mean": [0.0] * 6, "deviation": [1.0] * 6, "bias": 0.0}


def test_only_what_lies_outside_the_directions_counts() -> None:
    inside, outside = np.zeros((2, WIDTH), np.float32)
    inside[:2], outside[-1] = 9.0, 9.0
    near, far = DRAWN.log_residual(np.stack([inside, outside]))
    assert near < -10 and far == pytest.approx(np.log(81 / WIDTH), abs=1e-5)


def test_a_region_has_the_same_residual_in_any_batch() -> None:
    rows = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    alone = [DRAWN.log_residual(row[None])[0] for row in rows]
    assert DRAWN.log_residual(rows[::-1])[::-1].tolist() == alone


def test_entropies_and_maxima() -> None:
    assert entropy(EVEN)[0] == pytest.approx(np.log(4)) and entropy(CERTAIN)[0] == pytest.approx(0, abs=1e-6)
    found = numbers(EVEN, CERTAIN, np.array([2.0], np.float32), np.array([3.0], np.float32))
    assert found.shape == (1, len(NUMBERS))
    assert dict(zip(NUMBERS, found[0].tolist(), strict=True)) == pytest.approx(
        {
            "residual": 2.0,
            "image_residual": 3.0,
            "network_entropy": np.log(4),
            "network_maximum": 0.25,
            "tower_entropy": 0.0,
            "tower_maximum": 1.0,
        },
        abs=1e-5,
    )


@pytest.mark.parametrize("number", range(len(NUMBERS)))
def test_each_number_has_its_own_weight(number: int) -> None:
    weights = [0.0] * 6
    weights[number] = 1.0
    gate = Gate.from_config(SETTINGS | {"weights": weights}, DRAWN, DRAWN)
    features, image = np.full((1, WIDTH), 3.0, np.float32), np.full((1, WIDTH), 5.0, np.float32)
    expected = numbers(EVEN, CERTAIN, DRAWN.log_residual(features), DRAWN.log_residual(image))[0, number]
    assert gate.probability(EVEN, CERTAIN, features, image)[0] == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [1.0] * 5}, "the gate's weights must be 6 numbers"),
        ({"deviation": []}, "the gate's deviation must be 6 numbers"),
        ({"odd": 1}, "the gate needs weights, mean, deviation and bias"),
    ],
)
def test_settings_that_do_not_fit(changed: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gate.from_config(SETTINGS | changed, DRAWN, DRAWN)
    with pytest.raises(ConfigError, match="needs weights"):
        Gate.from_config({}, DRAWN, DRAWN)


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="same number of features"):
        DrawnFeatures(DRAWN.mean, DRAWN.deviation[:3], DRAWN.directions)

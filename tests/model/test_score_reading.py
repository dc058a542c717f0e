"""How the scores of a finder are read."""

import math

import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.score_reading import Calibration, ScoreReading


def test_a_score_is_its_probability_where_nothing_was_fitted() -> None:
    for score in (0.01, 0.5, 0.9):
        assert Calibration().probability(score) == pytest.approx(score)


def test_platts_scaling_of_the_logit() -> None:
    found = Calibration(2.0, -1.0).probability(0.8)
    assert found == pytest.approx(1 / (1 + math.exp(-(2 * math.log(4) - 1))))
    assert 0 < Calibration(2.0, 0.0).probability(0.0) < 1e-6 < 1 - 1e-6 < Calibration(2.0, 0.0).probability(1.0) < 1


def test_what_is_written_is_read_again() -> None:
    reading = ScoreReading(0.5, 0.2, 0.4, Calibration(2.0, 1.0), presence=Calibration(1.5, -1.0))
    assert ScoreReading.from_mapping(reading.as_mapping(), "x") == reading
    assert ScoreReading.from_mapping({}, "x") == ScoreReading()


@pytest.mark.parametrize(
    "given",
    [{"treshold": 0.5}, {"threshold": "x"}, {"threshold": True}, {"region": {"scale": math.nan}}, {"region": {"s": 1}}],
)
def test_what_cannot_be_read_is_named(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="x"):
        ScoreReading.from_mapping(given, "x")

"""Thresholds and calibration from few examples, with the model's own as the prior."""

import numpy as np
import pytest

from dynrefer.workbench.vocabularies.fitting import (
    PRIOR_EXAMPLES,
    Examples,
    Link,
    calibrate,
    fit,
    fit_threshold,
    log_loss,
    own_calibration,
    prior_threshold,
    probabilities_of,
)


def made(link: Link, regions: int, wrong_scale: float = 1.0, seed: int = 0) -> Examples:
    """Truth that follows from logits; the model says probabilities by `wrong_scale` times what would be right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (regions, 3)) if link is not Link.EXP else np.log(rng.uniform(0.01, 0.99, (regions, 3)))
    right = probabilities_of(logits, 1.0, 0.0, link)
    if link is Link.SOFTMAX:
        places = [rng.choice(3, p=row) for row in right]
        truth = np.eye(3, dtype=np.int8)[places]
    else:
        truth = (rng.uniform(size=right.shape) < right).astype(np.int8)
    own = probabilities_of(logits, wrong_scale, 0.0, link)
    return Examples(logits, own, truth, np.arange(regions), link)


@pytest.mark.parametrize("link", Link)
def test_the_models_own_calibration_is_found(link: Link) -> None:
    scale, bias = own_calibration(made(link, 50, wrong_scale=2.0))
    assert scale == pytest.approx(2.0, rel=1e-6) and bias == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("link", Link)
def test_many_examples_correct_it_and_few_hardly(link: Link) -> None:
    many, few = made(link, 2_000, wrong_scale=2.5), made(link, 1, wrong_scale=2.5)
    assert calibrate(many, own_calibration(many))[0] == pytest.approx(1.0, abs=0.15)
    assert calibrate(few, (2.5, 0.0))[0] > 1.5
    fitted = fit(many)
    assert fitted.after < fitted.before == pytest.approx(log_loss(many.probabilities, many))


def test_a_threshold_is_drawn_to_the_prior_by_its_examples() -> None:
    logits, truth = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 1], np.int8)
    assert fit_threshold(logits, truth, 0.0) == pytest.approx(2 * 2.5 / (2 + PRIOR_EXAMPLES))
    assert fit_threshold(np.tile(logits, 500), np.tile(truth, 500), 0.0) == pytest.approx(2.5, abs=0.02)
    assert fit_threshold(logits, truth, 2.7) == pytest.approx(2.7)  # as good as the middle, and the model's own


@pytest.mark.parametrize("truth", [[1, 1], [0, 0], [-1, 1], [-1, -1]])
def test_no_threshold_without_examples_of_both_kinds(truth: list[int]) -> None:
    assert fit_threshold(np.array([1.0, 2.0]), np.array(truth, np.int8), 0.0) is None


def test_prior_thresholds() -> None:
    assert prior_threshold(made(Link.SIGMOID, 5), (2.0, -1.0)) == 0.5
    assert prior_threshold(made(Link.EXP, 5), (2.0, 0.0)) == pytest.approx(np.log(0.5) / 2)
    softmax = made(Link.SOFTMAX, 300)
    assert -1.0 < prior_threshold(softmax, (1.0, 0.0)) < 3.0


def test_unknown_words_and_truth_are_left_out() -> None:
    logits = np.array([[2.0, np.nan], [-2.0, np.nan], [1.5, np.nan]])
    truth = np.array([[1, 1], [0, 0], [-1, 1]], np.int8)
    found = fit(Examples(logits, probabilities_of(logits, 1.0, 0.0, Link.SIGMOID), truth, np.arange(3), Link.SIGMOID))
    known, unknown = found.words
    assert (known.positives, known.negatives) == (1, 1) and known.threshold is not None
    assert (unknown.positives, unknown.negatives, unknown.threshold) == (0, 0, None)


def test_what_is_measured_was_left_out_of_the_fit() -> None:
    """All of one image: nothing can be held out but all of it, so the model's own is what is measured."""
    examples = made(Link.SIGMOID, 40, wrong_scale=3.0)
    one = Examples(examples.logits, examples.probabilities, examples.truth, np.zeros(40, np.intp), examples.link)
    found = fit(one)
    assert found.after == pytest.approx(found.before) and found.scale < 3.0

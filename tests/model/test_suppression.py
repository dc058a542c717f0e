"""Boxes that are one object."""

import numpy as np

from dynrefer.model.suppression import averaged, overlaps, suppress

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]], np.float32)


def test_intersection_over_union() -> None:
    found = overlaps(BOXES, BOXES)
    np.testing.assert_allclose(found[0], [1, 90 / 110, 0], rtol=1e-6)
    np.testing.assert_allclose(found, found.T)
    assert overlaps(np.zeros((1, 4), np.float32), BOXES).tolist() == [[0, 0, 0]]


def test_the_better_of_two_stays_and_of_equals_the_first() -> None:
    assert suppress(BOXES, np.array([0.5, 0.9, 0.1], np.float32), 0.5).tolist() == [1, 2]
    assert suppress(BOXES, np.array([0.5, 0.5, 0.5], np.float32), 0.5).tolist() == [0, 2]
    assert suppress(BOXES, np.array([0.5, 0.9, 0.1], np.float32), 0.9).tolist() == [1, 0, 2]
    assert suppress(BOXES[:0], np.empty(0, np.float32), 0.5).tolist() == []


def test_a_box_is_the_mean_of_those_that_say_the_same() -> None:
    scores = np.array([0.75, 0.25, 0.9], np.float32)
    found = averaged(BOXES, scores, np.array([0, 2]), 0.8)
    np.testing.assert_allclose(found, [[0.25, 0, 10.25, 10], [20, 20, 30, 30]], rtol=1e-6)
    assert averaged(BOXES, scores, np.empty(0, np.int64), 0.8).shape == (0, 4)

"""Scores -> the best labels."""

import numpy as np
import pytest

from dynrefer.model.tasks.scoring import best_labels

NAMES = tuple(f"name-{i:02d}" for i in range(40))


@pytest.mark.parametrize("threshold", [None, 0.3, 2.0])
@pytest.mark.parametrize("top_k", [1, 5, 39, 40, 99])
def test_labels_are_the_head_of_the_whole_order(threshold: float | None, top_k: int) -> None:
    rng = np.random.default_rng(1)
    scores = (rng.integers(0, 10, len(NAMES)) / 10).astype(np.float32)  # many are equal
    probabilities = rng.random(len(NAMES), dtype=np.float32)
    everything = sorted(zip(-scores, NAMES, strict=True))
    expected = [name for score, name in everything if threshold is None or -score > threshold][:top_k]
    labels = best_labels(NAMES, scores, probabilities, threshold, top_k)
    assert [label.name for label in labels] == expected
    for label in labels:
        at = NAMES.index(label.name)
        assert (np.float32(label.score), np.float32(label.probability)) == (scores[at], probabilities[at])

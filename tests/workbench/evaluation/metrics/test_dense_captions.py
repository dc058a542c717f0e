"""Dense captions on cases worked out by hand, with METEOR replaced by a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dynrefer.model.types import Corners
from dynrefer.workbench.data.labelled import LabelledRegion
from dynrefer.workbench.evaluation.metrics.dense_captions import (
    METEORS,
    OVERLAPS,
    box_overlaps,
    dense_caption_metrics,
    merged_boxes,
)
from dynrefer.workbench.evaluation.predictions import DenseCaption


def _truth(image: int, box: Corners, *captions: str) -> LabelledRegion:
    return LabelledRegion(0, image, box, captions)


def _found(image: int, box: Corners, score: float, text: str) -> DenseCaption:
    return DenseCaption(LabelledRegion(0, image, box), score, text)


def _scorer(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, NDArray[np.float64]]:
    """A caption's METEOR is the number it ends with; none without references."""
    each = [float(text.split()[-1]) if known else 0.0 for text, known in zip(captions, references, strict=True)]
    return sum(each), np.array(each)


def test_overlaps() -> None:
    first, second = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    assert box_overlaps(first, second)[0] == pytest.approx([1.0, 1 / 3, 0.0])


def test_boxes_on_top_of_each_other_become_one_with_all_references() -> None:
    # The second overlaps both its neighbours by .8 (80 / 100); those two overlap by 60 / 100 only. It gathers them.
    boxes = np.array([[0.0, 0, 80, 10], [0, 0, 100, 10], [20, 0, 100, 10], [200, 0, 300, 10]])
    means, texts = merged_boxes(boxes, [("a",), ("b",), ("c", "d"), ("e",)])
    assert texts == [("a", "b", "c", "d"), ("e",)]
    assert means[0] == pytest.approx([20 / 3, 0, 280 / 3, 10]) and means[1].tolist() == [200, 0, 300, 10]


def test_perfect_captions_of_perfect_boxes() -> None:
    truth = [_truth(1, (0, 0, 10, 10), "a"), _truth(1, (50, 0, 60, 10), "b"), _truth(2, (0, 0, 10, 10), "c")]
    found = [_found(region.image, region.box, 0.5, "said 1.0") for region in truth]  # type: ignore[arg-type]
    metrics = dense_caption_metrics(truth, found, _scorer)
    assert len(metrics.by_pair) == len(OVERLAPS) * len(METEORS) == 30
    assert metrics.mean == metrics.boxes_alone == 1.0


def test_average_precision_by_hand() -> None:
    # Two boxes are true. In order of score: a right one; a second on the same box, which is a miss however good it is;
    # one beside everything; one that overlaps the other box by 50 / 100 and has METEOR .12.
    truth = [_truth(1, (0, 0, 100, 1), "a"), _truth(1, (200, 0, 300, 1), "b")]
    found = [
        _found(1, (0, 0, 100, 1), 0.9, "said 0.3"),
        _found(1, (0, 0, 99, 1), 0.8, "said 0.9"),
        _found(1, (500, 0, 600, 1), 0.7, "said 0.9"),
        _found(1, (200, 0, 250, 1), 0.6, "said 0.12"),
    ]
    metrics = dense_caption_metrics(truth, found, _scorer)
    # Precision 1 at recall 1/2, then 2/4 at recall 1: of the recalls 0 ... .99, 51 are up to .5 and 49 beyond.
    both, one = (51 * 1 + 49 * 0.5) / 100, 51 / 100
    for (overlap, meteor), value in metrics.by_pair.items():
        assert value == pytest.approx(both if overlap <= 0.5 and meteor < 0.12 else one), (overlap, meteor)
    assert metrics.mean == pytest.approx((9 * both + 21 * one) / 30)
    assert metrics.boxes_alone == pytest.approx((3 * both + 2 * one) / 5)


def test_images_without_predictions_are_missed_and_images_without_truth_left_out() -> None:
    truth = [_truth(1, (0, 0, 10, 10), "a"), _truth(2, (0, 0, 10, 10), "b")]
    found = [_found(3, (0, 0, 10, 10), 0.9, "said 1.0"), _found(1, (0, 0, 10, 10), 0.5, "said 1.0")]
    # One right of two: precision 1 up to recall 1/2, nothing beyond.
    assert dense_caption_metrics(truth, found, _scorer).mean == pytest.approx(0.51)
    assert dense_caption_metrics(truth, found[:1], _scorer).mean == 0.0

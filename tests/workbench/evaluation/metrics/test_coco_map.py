"""Recognition with given boxes, through COCO's own evaluation, on a case worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.evaluation.metrics.coco_map import coco_map

SCORES = np.array(
    [
        [5.0, 1.0, 0.0],  # a cat, named so, the surest
        [4.0, 3.0, 0.0],  # a dog, called a cat
        [3.0, 1.0, 0.0],  # a cat, named so
        [1.0, 2.0, 0.0],  # a dog, named so
    ]
)


def _data() -> LabelledData:
    names = ("cat", "dog", "cat", "dog")
    regions = tuple(
        LabelledRegion(
            f"r{row}", "left" if row < 2 else "right", (20.0 * row, 0.0, 20.0 * row + 10, 10.0), category=name
        )
        for row, name in enumerate(names)
    )
    return LabelledData("x", {"left": Path(), "right": Path()}, regions, categories={"cat": 7, "dog": 3, "bird": 9})


def test_average_precision_of_each_category_and_their_mean() -> None:
    average, by_category, curve = coco_map(_data(), SCORES)
    # Cats: right, wrong, right: precision 1 up to recall 1/2, then 2/3; 51 and 50 of COCO's 101 recalls.
    # Dogs: one of two found, nothing wrong: 1 up to recall 1/2. Birds do not occur.
    cat, dog = (51 * 1 + 50 * 2 / 3) / 101, 51 / 101
    assert by_category == {"cat": pytest.approx(cat), "dog": pytest.approx(dog)}
    assert average == pytest.approx((cat + dog) / 2)
    assert len(curve.recall) == 101 and curve.precision[[0, -1]] == pytest.approx([1.0, 1 / 3])


def test_it_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    coco_map(_data(), SCORES)
    assert capsys.readouterr().out == ""

"""What of a result goes where, with stand-ins that keep what they are given; `tests/service/integrations` has the real
supervision and FiftyOne.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dynrefer.model.described import Descriptions
from dynrefer.model.errors import ImageError
from dynrefer.model.finding import Findings, FoundRegion
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.types import AttributeLabel, Caption, Label, RegionDescription, RegionMask, Task

BOX = (10.0, 20.0, 30.0, 60.0)
CAPTION = Caption("a brown dog", 0.4, -0.9, -0.1, "dog", 0.7)
TAGS = (Label("dog", 0.9, 0.8), Label("leash", 0.6, 0.3))
ATTRIBUTES = (AttributeLabel("color:brown", "color", "brown", 0.8, 0.6),)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def detections(**given: Any) -> SimpleNamespace:
        return SimpleNamespace(**given)

    library = SimpleNamespace(Detections=detections, Detection=detections)
    monkeypatch.setattr("dynrefer.model.detections._imported", lambda package: library)


def described(**results: Any) -> RegionDescription:
    return RegionDescription(BOX, False, None, {}, {Task(name): value for name, value in results.items()})


def mask() -> RegionMask:
    bitmap = np.zeros((100, 80), dtype=bool)
    bitmap[25:50, 12:28] = True
    return mask_from_bitmap(bitmap)


@pytest.mark.parametrize(
    ("results", "name", "probability"),
    [
        ({"categories": (Label("fox", 7.0, 0.9),), "caption": CAPTION, "tags": TAGS}, "fox", 0.9),
        ({"caption": CAPTION, "tags": TAGS}, "dog", 0.7),
        ({"caption": Caption("a dog", 0.4, -0.9, -0.1), "tags": TAGS}, "dog", 0.8),
    ],
)
def test_a_described_region_is_called_what_is_most_surely_said(
    results: dict[str, Any], name: str, probability: float
) -> None:
    found: Any = Descriptions([described(**results)]).to_supervision()
    assert found.data["class_name"].tolist() == [name] and found.class_id.tolist() == [0]
    assert found.confidence.tolist() == pytest.approx([probability])
    (one,) = Descriptions([described(**results)]).to_fiftyone((80, 100)).detections
    assert one.label == name and one.confidence == probability


def test_what_was_not_asked_for_is_absent() -> None:
    found: Any = Descriptions([described(attributes=ATTRIBUTES)]).to_supervision()
    assert found.class_id is None and found.confidence is None and found.mask is None
    assert found.data["attributes"].tolist() == [("color:brown",)] and set(found.data) == {"attributes"}


def test_unlikely_words_are_left_out_unless_they_are_wanted() -> None:
    regions = Descriptions([described(tags=TAGS, attributes=ATTRIBUTES), described(tags=(), attributes=())])
    likely: Any = regions.to_supervision()
    assert likely.data["tags"].tolist() == [("dog",), ()]
    every: Any = regions.to_supervision(least_probability=0.0)
    assert every.data["tags"].tolist() == [("dog", "leash"), ()]


def test_masks_stand_there_where_all_regions_have_one() -> None:
    region = FoundRegion(BOX, "dog", 0.5, 0.6, 0, mask())
    both: Any = Findings((region, region)).to_supervision()
    assert both.mask.shape == (2, 100, 80) and both.mask.sum() == 2 * 25 * 16
    one: Any = Findings((region, FoundRegion(BOX, "dog", 0.4, 0.3, 1))).to_supervision()
    assert one.mask is None and one.data["score"].tolist() == pytest.approx([0.5, 0.4])
    (kept,) = Findings((region,)).to_fiftyone((80, 100)).detections
    assert kept.mask.shape == (40, 20) and kept.mask.sum() == 25 * 16
    assert kept.bounding_box == pytest.approx([10 / 80, 20 / 100, 20 / 80, 40 / 100])


def test_nothing_found_is_no_error() -> None:
    none: Any = Findings(()).to_supervision()
    assert none.xyxy.shape == (0, 4) and none.mask is None
    assert Findings(()).to_fiftyone((80, 100)).detections == []


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ImageError, match=r"size=\(width, height\)"):
        Findings(()).to_fiftyone()
    with pytest.raises(ValueError, match="'dog' is not among the names fox."):
        Findings((FoundRegion(BOX, "dog", 0.5, 0.6, 0),)).to_supervision(names=["fox"])

"""Records as plain data: whatever they hold, JSON takes it."""

import json

import numpy as np
import pytest

from dynrefer.model.types import (
    AttributeLabel,
    Caption,
    ImageInfo,
    Label,
    RegionDescription,
    RegionQuery,
    Task,
    View,
    ViewCandidate,
    ViewPlan,
    ViewPolicy,
)

BOX = (1.0, 2.0, 3.0, 4.0)
CANDIDATE = ViewCandidate(0.5, BOX, np.int64(7), np.float64(14.0), "00ff" * 4)  # type: ignore[arg-type]
PLAN = ViewPlan((View(0.0, BOX), View(0.5, BOX)), ViewPolicy.IMAGE_PRIOR, (CANDIDATE,))


def test_a_description_as_json() -> None:
    found = RegionDescription(
        box=BOX,
        clipped=False,
        plan=PLAN,
        plans={Task.CAPTION: PLAN},
        results={
            Task.CAPTION: Caption("a dog", 0.5, -1.0, -0.5),
            Task.TAGS: (Label("dog", np.float32(0.5), 1.0),),  # type: ignore[arg-type]
            Task.ATTRIBUTES: (AttributeLabel("color:brown", "color", "brown", 0.5, 0.5),),
        },
        timings_ms={"views": 1.5},
    )
    assert json.loads(found.to_json()) == found.to_dict() == json.loads(found.to_json(indent=2))
    document = found.to_dict()
    assert document["plan"]["policy"] == "image_prior" and type(document["plan"]["policy"]) is str
    assert document["plan"]["candidates"] == [
        {"t": 0.5, "box": list(BOX), "distance": 7, "gain": 14.0, "hash": "00ff" * 4}
    ]
    assert document["results"]["tags"] == [{"name": "dog", "score": 0.5, "probability": 1.0, "level": None}]
    assert list(document["plans"]) == ["caption"] and document["domain"] is None


def test_every_record_has_it() -> None:
    expected = {"width": 4, "height": 3, "orientation": 6, "frames": 1, "alpha": None}
    assert ImageInfo(4, 3, 6).to_dict() == expected
    assert RegionQuery(BOX, (Task.TAGS,), thresholds={Task.TAGS: 0.5}).to_dict()["thresholds"] == {"tags": 0.5}
    assert json.loads(View(0.5, BOX).to_json()) == {"t": 0.5, "box": list(BOX)}


def test_nan_is_not_json() -> None:
    with pytest.raises(ValueError):
        Caption("", float("nan"), 0.0, 0.0).to_json()

"""Descriptions are a list that draws itself."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from dynrefer.model import Descriptions, DynRefer, ImageError
from dynrefer.model.drawing.palette import COLOURS
from dynrefer.model.preview import Preview
from dynrefer.model.prompts import Polygon
from dynrefer.model.types import Caption, Label, RegionDescription, Task
from tests.model.drawing.test_regions import colours_of
from tests.repository import DOCS

SCENE = DOCS / "scene.png"
BOXES = [(41.0, 2.0, 117.0, 82.0), (50.0, 89.0, 105.0, 138.0)]


def described(box: tuple[float, float, float, float], text: str, probability: float | None = 0.75) -> RegionDescription:
    results = {Task.CAPTION: Caption(text, 0.5, -1.0, -0.5, None, probability), Task.TAGS: (Label(text, 0.5, 0.9),)}
    return RegionDescription(box, False, None, {}, results)


@pytest.fixture
def found() -> Descriptions:
    regions = [described(BOXES[0], "a snowman"), described(BOXES[1], "a pig")]
    shapes = {1: Polygon(((50.0, 89.0, 105.0, 89.0, 70.0, 138.0),))}
    return Descriptions(regions, Preview.of(SCENE, (221, 231)), shapes)


def test_they_are_a_list(found: Descriptions) -> None:
    assert isinstance(found, list) and len(found) == 2 and found == list(found)
    assert found[1].caption is not None and found[1].caption.text == "a pig" and found[-1] is found[1]
    assert [each.box for each in found] == BOXES
    assert found + [] == found and Descriptions() == []
    assert json.loads(found.to_json()) == [each.to_dict() for each in found]
    assert pickle.loads(pickle.dumps(found)) == found == copy.copy(found)


def test_a_part_knows_the_image_too(found: Descriptions) -> None:
    part = found[1:]
    assert isinstance(part, Descriptions) and part == [found[1]] and part.preview == found.preview
    assert COLOURS[1] not in colours_of(part.draw()) and COLOURS[1] in colours_of(found.draw())


@pytest.mark.parametrize("changed", [lambda found: found, pickle.loads, copy.copy])
def test_a_shape_stays_with_its_region(found: Descriptions, changed: object) -> None:
    again = pickle.loads(pickle.dumps(found)) if changed is pickle.loads else changed(found)  # type: ignore[operator]
    again.reverse()
    assert [annotation.shape is not None for annotation in again._annotations()] == [True, False]


def test_without_an_image_there_is_no_drawing(found: Descriptions) -> None:
    with pytest.raises(ImageError, match="do not know their image"):
        Descriptions(found).draw()


def test_the_model_returns_them(tmp_path: Path) -> None:
    model = DynRefer.load("embedded", device="cpu", segmenter="none")
    found = model.describe(SCENE, BOXES, "caption")
    assert isinstance(found, Descriptions) and found.preview == Preview(SCENE.absolute(), found.preview.size)
    assert set(COLOURS[:2]) <= colours_of(found.draw())
    assert max(found.draw(longest=500).width, 500) < 1000
    array = np.zeros((40, 60, 3), np.uint8)
    assert model.describe(array, [], "caption").draw().size[0] > 60
    detected = model.detect(SCENE, ["pig"])
    assert detected.preview is not None and "preview" not in detected.to_dict()
    assert COLOURS[0] in colours_of(detected.draw()) and ">pig<" in detected._repr_html_()

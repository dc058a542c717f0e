"""Labelled regions and their images: the frame of the boxes, and what is left out because of an image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.types import Corners
from dynrefer.workbench.data.frames import Frame
from dynrefer.workbench.data.labelled import LabelledData, captioned
from dynrefer.workbench.data.labelled_files import read_labelled, read_proposals
from dynrefer.workbench.errors import DataError, TooManyBadSamplesError

ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def save_turned(path: Path, stored: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif)


def written(folder: Path, boxes: Sequence[Sequence[float]], **image: Any) -> Path:
    """A file of one image, a.png, and boxes as x, y, width, height."""
    annotations = [
        {"id": number, "image_id": 1, "bbox": box, "caption": "a box"} for number, box in enumerate(boxes, start=1)
    ]
    file = folder / "data.json"
    file.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png", **image}], "annotations": annotations}))
    return file


def share_of_red(data: LabelledData) -> float:
    """Of the first box, as the model is asked for it."""
    (source,) = data.image_regions()
    x1, y1, x2, y2 = (round(value) for value in source.boxes[0])
    crop = source.load()[y1:y2, x1:x2]
    return float(np.all(crop == (255, 0, 0), axis=2).mean())


@pytest.mark.parametrize("orientation", [1, *ORIENTATIONS])
def test_a_box_of_the_stored_image_is_turned_with_it(orientation: int, tmp_path: Path) -> None:
    stored = Image.new("RGB", (160, 120), "white")
    stored.paste((255, 0, 0), (10, 70, 50, 110))
    save_turned(tmp_path / "a.png", stored, orientation)
    data = read_labelled(written(tmp_path, [[10, 70, 40, 40]]))
    assert share_of_red(data.located(Frame.STORED)) == 1.0
    upright = data.located(Frame.UPRIGHT)
    assert upright.stored == {} and (share_of_red(upright) < 1.0) == (orientation != 1)


@pytest.mark.parametrize("size", [(160, 120), (160.0, 120.0), ("160", "120"), ("160.0", " 120 ")])
def test_the_listed_size_decides_however_it_is_written(size: tuple[object, object], tmp_path: Path) -> None:
    stored = Image.new("RGB", (160, 120), "white")
    stored.paste((255, 0, 0), (10, 10, 50, 50))
    save_turned(tmp_path / "a.png", stored, 6)
    data = read_labelled(written(tmp_path, [[10, 10, 40, 40]], width=size[0], height=size[1])).located()
    assert list(data.stored) == [1] and share_of_red(data) == 1.0


def test_another_size_than_listed_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")
    data = read_labelled(written(tmp_path, [[10, 10, 40, 40]], width=999.0, height=999.0))
    with pytest.raises(TooManyBadSamplesError, match=r"annotation 1 \(a.png\): it is 160 x 120 pixels, but listed as"):
        data.located()


def many(*bad: Sequence[float]) -> list[Sequence[float]]:
    """A hundred boxes of each bad one."""
    return [*bad, *([index % 100, 5, 30, 30] for index in range(100 * len(bad) - len(bad)))]


def test_a_bad_box_is_left_out_and_named(tmp_path: Path) -> None:
    """As the two flat ones of COCO's train2017; and one that covers nothing of its image."""
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")
    data = read_labelled(written(tmp_path, many([96.65, 88.33, 1.03, 0.0], [200, 10, 5, 5])))
    assert len(data) == 199 and list(data.skipped.found) == ["annotation 1"]
    located = data.located()
    assert len(located) == 198 and list(located.left_out) == [2]
    assert list(located.skipped.found) == ["annotation 1", "annotation 2 (a.png)"]
    assert "covers nothing" in located.skipped.found["annotation 2 (a.png)"]
    assert len(captioned(located).located()) == 100  # one region for each box, twice


def test_more_than_a_hundredth_is_too_many(tmp_path: Path) -> None:
    Image.new("RGB", (160, 120)).save(tmp_path / "a.png")
    with pytest.raises(TooManyBadSamplesError, match="3 of the 299 samples .* annotation 1: The box .* is empty"):
        read_labelled(written(tmp_path, many([5, 5, 0, 5], [5, 5, 5, 0], [5, 5, 0, 0])[:-1]))
    with pytest.raises(TooManyBadSamplesError, match="2 of the 100 samples"):
        read_labelled(written(tmp_path, [[5, 5, 0, 5], *many([500, 10, 5, 5])[:-1]])).located()


def test_a_missing_image_is_named_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*a\\b.png; name the folder .* --images; its name holds a backslash"):
        read_labelled(written(tmp_path, [[1, 1, 5, 5]], file_name="a\\b.png")).located()
    (tmp_path / "a").mkdir()
    Image.new("RGB", (160, 120)).save(tmp_path / "a" / "b.png")
    located = read_labelled(written(tmp_path, [[1, 1, 5, 5]], file_name="a\\b.png")).located()
    assert next(located.image_regions()).load().shape == (120, 160, 3)


def test_detected_boxes_are_in_the_frame_of_the_data(tmp_path: Path) -> None:
    stored = Image.new("RGB", (160, 120), "white")
    stored.paste((255, 0, 0), (10, 10, 50, 50))
    save_turned(tmp_path / "a.png", stored, 6)
    data = read_labelled(written(tmp_path, [[130, 10, 20, 20]])).located()  # stored, by this box
    proposals: list[Corners] = [(10, 10, 40, 40)] * 99
    entries = [{"image_id": 1.0, "bbox": box, "score": "0.5"} for box in proposals]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([*entries, {"image_id": 1, "bbox": [5, 5, 0, 0], "score": 1}]))
    found = read_proposals(boxes, data)
    assert len(found) == 99 and list(found.skipped.found) == ["entry 99"]
    assert share_of_red(found.on_images_of(data)) == 1.0

"""Scenes of annotation files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.training.finder.file_scenes import FileScenes

DOG = LabelledRegion(1, 7, (5, 6, 25, 36), captions=("a brown dog", "The pet"))
MEN = LabelledRegion(2, 7, (1, 2, 11, 32), captions=("Two men",))
HERD = LabelledRegion(3, 7, (0, 0, 50, 40), category="cat", crowd=True)
CAT = LabelledRegion(4, 8, (0, 0, 50, 40), category="Cat", crowd=False)


def _data(folder: Path, *regions: LabelledRegion) -> LabelledData:
    for name in ("7.png", "8.png"):
        Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / name)
    return LabelledData("data.json", {7: folder / "7.png", 8: folder / "8.png"}, regions)


def test_a_name_is_that_of_the_category_or_of_the_phrase(tmp_path: Path) -> None:
    scenes = FileScenes(_data(tmp_path, DOG, MEN, HERD, CAT), ("dog", "cat"))
    first, second = scenes
    assert len(scenes) == 2 and [each.category for each in first.objects] == ["dog", ""]
    assert first.objects[0].box == (5, 6, 25, 36) and first.image.shape == (40, 50, 3)
    assert (first.owner == -1).all() and [each.category for each in second.objects] == ["cat"]
    assert scenes.summary == "data.json: 2 images, 3 regions, 2 with a name that is trained"


@pytest.mark.parametrize(("region", "message"), [(MEN, "names nothing that the model knows"), (HERD, "all are crowds")])
def test_a_file_that_teaches_no_name_is_refused(tmp_path: Path, region: LabelledRegion, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FileScenes(_data(tmp_path, region), ("dog", "cat"))

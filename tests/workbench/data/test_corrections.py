"""Corrections are read strictly: what counts, and what is refused with its line and member."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer.service.integrations.label_studio.corrections_folder import CorrectionsFolder
from dynrefer.workbench.data.corrections import CorrectedRegions, read_corrections
from dynrefer.workbench.errors import DataError

SIZE = (40, 30)


def image(folder: Path, colour: str) -> str:
    """Write an image, named by its digest; returns the name."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "images" / "new.png"
    Image.new("RGB", SIZE, colour).save(path)
    name = f"images/{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.png"
    path.rename(folder / name)
    return name


def write(folder: Path, lines: Sequence[Mapping[str, Any] | str], end: str = "\n") -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "corrections.jsonl").write_text("\n".join(texts) + end, encoding="utf-8")
    return folder


def line(folder: Path, **changes: Any) -> dict[str, Any]:
    given = {"id": "a", "image": image(folder, "red"), "box": [1, 2, 20, 25], "category": "dog", **changes}
    return {name: value for name, value in given.items() if value is not ...}


def refused(folder: Path, lines: Sequence[Mapping[str, Any] | str]) -> str:
    with pytest.raises(DataError) as found:
        read_corrections(write(folder, lines))
    return str(found.value)


def test_members_are_read_and_those_that_are_absent_were_not_judged(tmp_path: Path) -> None:
    given = line(tmp_path, caption=" a  dog ", tags=[], by="anna", at="2026-11-27T09:00:00Z", attributes=None)
    (found,) = read_corrections(write(tmp_path, [given])).regions
    assert (found.id, found.box, found.category, found.caption) == ("a", (1, 2, 20, 25), "dog", "a dog")
    assert (found.tags, found.attributes) == ((), None)
    assert found.image == tmp_path / given["image"] and found.digest == given["image"][7:39]


def test_the_last_line_of_an_id_counts_and_a_deleted_region_is_gone(tmp_path: Path) -> None:
    kept, gone = line(tmp_path), line(tmp_path, id="b")
    lines = [kept, gone, {**kept, "category": "fox"}, {"id": "b", "deleted": True}]
    (found,) = read_corrections(write(tmp_path, lines)).regions
    assert found.category == "fox" and found.where.endswith("line 3")


def test_a_deleted_region_may_come_back(tmp_path: Path) -> None:
    given = line(tmp_path)
    found = read_corrections(write(tmp_path, [given, {"id": "a", "deleted": True}, given]))
    assert len(found.regions) == 1


def test_what_an_earlier_line_said_of_its_image_no_longer_matters(tmp_path: Path) -> None:
    found = read_corrections(write(tmp_path, [line(tmp_path, image="images/" + "0" * 32 + ".png"), line(tmp_path)]))
    assert len(found.regions) == 1 and not found.warnings


def test_an_unfinished_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    found = read_corrections(write(tmp_path, [line(tmp_path), '{"id": "b", "ima'], end=""))
    assert len(found.regions) == 1
    assert found.warnings == ("corrections.jsonl, line 2 is unfinished and was left out.",)


def test_a_region_of_which_nothing_was_judged_is_left_out_and_told(tmp_path: Path) -> None:
    found = read_corrections(write(tmp_path, [line(tmp_path), line(tmp_path, id="b", category=...)]))
    assert [each.id for each in found.regions] == ["a"]
    assert found.warnings == (
        "1 regions of corrections.jsonl were drawn and nothing of them was judged; they were left out.",
    )


def test_what_label_studio_surface_writes_is_read(tmp_path: Path) -> None:
    folder = CorrectionsFolder(tmp_path)
    Image.new("RGB", SIZE, "red").save(tmp_path / "red.png")
    given = {"id": "label-studio:1:2:x", "box": [0.5, 1.0, 20.25, 25.0], "category": "dog", "by": "label-studio:1"}
    folder.replace(lambda origin: True, [given], (tmp_path / "red.png").read_bytes())
    (found,) = read_corrections(tmp_path).regions
    assert (found.id, found.box, found.category) == ("label-studio:1:2:x", (0.5, 1.0, 20.25, 25.0), "dog")


def test_an_unfinished_line_elsewhere_is_a_flaw(tmp_path: Path) -> None:
    assert "line 1: it is not valid JSON" in refused(tmp_path, ['{"id": "b", "ima', line(tmp_path)])


def test_a_box_is_cut_to_its_image(tmp_path: Path) -> None:
    (found,) = read_corrections(write(tmp_path, [line(tmp_path, box=[-5.5, 0, 20, 99])])).regions
    assert found.box == (0, 0, 20, 30)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": 7}, '"id" must be a text'),
        ({"image": "../x.png"}, '"image" must be "images/"'),
        ({"image": ...}, '"image" must be "images/"'),
        ({"image": f"images/{'0' * 32}.png"}, '"image": there is no image'),
        ({"box": [1, 2, 3]}, '"box" must be four finite numbers'),
        ({"box": [1, 2, 3, True]}, '"box" must be four finite numbers'),
        ({"box": [1, 2, 3, float("nan")]}, '"box" must be four finite numbers'),
        ({"box": [100, 2, 120, 20]}, '"box": The box (100, 2, 120, 20) covers nothing'),
        ({"box": [20, 2, 1, 20]}, '"box": The box (20, 2, 1, 20) is inverted'),
        ({"caption": "  "}, '"caption" must be a text that is not empty'),
        ({"category": ["dog"]}, '"category" must be a text'),
        ({"tags": "dog"}, '"tags" must be a list of texts'),
        ({"attributes": [1]}, '"attributes" must be a list of texts'),
        ({"deleted": "yes"}, '"deleted" must be true or false'),
        ({"labels": []}, "'labels' is no member of a correction"),
    ],
)
def test_a_flaw_is_told_with_its_line_and_member(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    sentence = refused(tmp_path, [line(tmp_path, id="b"), line(tmp_path, **changes)])
    assert "corrections.jsonl, line 2: " + said in sentence and "\n" not in sentence


def test_an_image_that_is_another_than_the_one_corrected_is_refused(tmp_path: Path) -> None:
    given = line(tmp_path)
    Image.new("RGB", SIZE, "blue").save(tmp_path / given["image"])
    assert "is another file than the one that was corrected" in refused(tmp_path, [given])


def test_a_damaged_image_is_refused(tmp_path: Path) -> None:
    name = f"images/{hashlib.sha256(b'no image').hexdigest()[:32]}.png"
    given = line(tmp_path, image=name)
    (tmp_path / name).write_bytes(b"no image")
    assert '"image": ' in refused(tmp_path, [given])


def test_many_flaws_are_counted_and_five_shown(tmp_path: Path) -> None:
    sentence = refused(tmp_path, [line(tmp_path, id=str(i), box=None) for i in range(8)])
    assert "has 8 flaws" in sentence and sentence.count('"box"') == 5 and sentence.endswith("and 3 more.")


def test_a_folder_without_regions_is_refused(tmp_path: Path) -> None:
    assert "holds no region" in refused(tmp_path, [{"id": "a", "deleted": True}])
    with pytest.raises(DataError, match="cannot read .*corrections.jsonl"):
        read_corrections(tmp_path / "nowhere")


def test_regions_are_asked_image_by_image_in_their_own_order(tmp_path: Path) -> None:
    red, blue = image(tmp_path, "red"), image(tmp_path, "blue")
    lines = [line(tmp_path, id=str(place), image=[red, blue][place % 2], box=[place, 0, 20, 20]) for place in range(4)]
    found = read_corrections(write(tmp_path, lines)).regions
    asked = list(CorrectedRegions({}, found).image_regions())
    assert [box for each in asked for box in each.boxes] == [each.box for each in found]
    assert len(asked) == 2 and asked[0].load().shape == (30, 40, 3)
    colours = {tuple(each.load()[0, 0].tolist()) for each in asked}
    assert colours == {(255, 0, 0), (0, 0, 255)} and asked[0].load().dtype == np.uint8

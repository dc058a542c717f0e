"""Bad samples in a run: counted, skipped, named in the message and, all of them, in the run's file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from dynrefer.workbench.errors import TooManyBadSamplesError
from dynrefer.workbench.training.run_directory import RunDirectory
from dynrefer.workbench.training.run_settings import resumed_settings
from dynrefer.workbench.training.trainer import train_on
from tests.workbench.training.conftest import tiny_settings
from tests.workbench.training.test_command import invoke, refused

pytestmark = pytest.mark.training


def spoilt(drawn: Path, folder: Path, copies: int, gone: int) -> Path:
    """The drawn data set `copies` times over, with one more image that is no image and `gone` regions on it."""
    shutil.copytree(drawn, folder)
    document = json.loads((folder / "train.json").read_text())
    regions = document["annotations"] * copies
    (folder / "broken.png").write_bytes(b"no image")
    document["images"].append({"id": 1, "file_name": "broken.png"})
    document["annotations"] = [{**region, "id": number} for number, region in enumerate(regions)]
    for region in document["annotations"][:gone]:
        region["image_id"] = 1
    (folder / "train.json").write_text(json.dumps(document))
    return folder


def without_captions(drawn: Path, file: Path, bad: int, total: int = 120) -> Path:
    """Annotations on the drawn images, the first of them without a caption."""
    document = json.loads((drawn / "train.json").read_text())
    regions = (document["annotations"] * total)[:total]
    document["annotations"] = [
        {**region, "id": number, "caption": "" if number < bad else region["caption"]}
        for number, region in enumerate(regions)
    ]
    file.write_text(json.dumps(document))
    return file


def reported(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((run / "bad_samples.json").read_text())
    return found


def test_a_few_bad_samples_are_skipped_and_named(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = spoilt(drawn, tmp_path / "data", copies=4, gone=1)
    val = without_captions(drawn, tmp_path / "data" / "val.json", bad=1)
    settings = tiny_settings(data, tiny_model, epochs=2, batch_size=10, val=val, val_limit=10)
    result = train_on(settings, tmp_path / "run")
    assert result is not None
    report, val_report = result.reports
    assert list(report.found) == ["annotation 0 (broken.png)"]  # met in both epochs, counted once
    assert "is not an image" in report.summary() and "annotation 0 (broken.png)" in report.summary()
    assert reported(tmp_path / "run") == [
        {"source": str(data / "train.json"), "samples": report.total, "bad": report.found, "read_as_stored": []},
        {
            "source": str(val),
            "samples": 120,
            "bad": {"annotation 0": "its caption is missing or empty; plain COCO needs --captions"},
            "read_as_stored": [],
        },
    ]
    assert list(val_report.found) == ["annotation 0"]

    # Another --val: what was bad in the one before is not bad in this one.
    other = without_captions(drawn, tmp_path / "data" / "other.json", bad=0)
    stored = RunDirectory.stored_settings(tmp_path / "run")
    assert stored is not None
    AcceleratorState._reset_state(reset_partial_state=True)
    again = train_on(resumed_settings({"val": other}, stored), tmp_path / "run")
    assert again is not None
    assert [each.found for each in again.reports] == [report.found, {}]


def test_too_many_bad_samples_stop_the_run(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = spoilt(drawn, tmp_path / "data", copies=5, gone=6)
    val = without_captions(drawn, tmp_path / "data" / "val.json", bad=1)
    with pytest.raises(TooManyBadSamplesError, match=r"broken.png.* is not an image") as caught:
        train_on(tiny_settings(data, tiny_model, epochs=3, val=val), tmp_path / "run")
    assert "more than 1%" in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"; all in {tmp_path / 'run' / 'bad_samples.json'}.")
    assert not (tmp_path / "run" / "model").exists()
    train, validation = reported(tmp_path / "run")
    assert len(train["bad"]) > 0.01 * train["samples"] and list(validation["bad"]) == ["annotation 0"]


def test_too_many_bad_annotations_are_all_in_the_file(drawn: Path, tiny_model: Path, tmp_path: Path) -> None:
    """It is there before there is a run, and does not stand in the way of the next attempt."""
    data, run = without_captions(drawn, tmp_path / "train.json", bad=30), tmp_path / "run"
    arguments = ("--train", data, "--images", drawn, "--init", tiny_model, "--out", run, "--device", "cpu")
    for _ in range(2):
        sentence = refused(*arguments)
        assert "30 of the 120" in sentence and sentence.endswith(f"and 25 more; all in {run / 'bad_samples.json'}.")
        (report,) = reported(run)
        assert list(report["bad"]) == [f"annotation {number}" for number in range(30)]
    without_captions(drawn, data, bad=0, total=8)
    assert invoke(*arguments, "--epochs", 1, "--batch-size", 8, "--workers", 0, "--threads", 1).exit_code == 0
    assert reported(run)[0]["bad"] == {}

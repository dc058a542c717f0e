"""`dynrefer annotate-data`: what finder and describer agree on becomes a file that the one reader reads."""

import json
import shutil
from pathlib import Path

import pytest

from dynrefer.model import DynRefer
from dynrefer.model.types import Task
from dynrefer.workbench.annotate import Filters, annotate
from dynrefer.workbench.data.labelled_files import read_labelled
from tests.repository import DOCS
from tests.workbench.command_line import refusal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "deeper").mkdir(parents=True)
    shutil.copy(DOCS / "scene.png", images / "deeper" / "scene.png")
    (images / "bad.png").write_bytes(b"no image")
    (images / "notes.txt").write_text("not one either")
    return images


def test_a_folder_becomes_training_data_and_is_done_once(folder: Path, tmp_path: Path) -> None:
    model, out = DynRefer.load("embedded", device="cpu"), tmp_path / "out"
    out.mkdir()
    files = sorted(folder.rglob("*.png"))
    counts = annotate(model, files, folder, out, Filters(0.5))
    assert (counts["images"], counts["unreadable"]) == (1, 1) and counts["regions"] >= 1
    document = json.loads((out / "annotations.json").read_text())
    pig = next(each for each in document["annotations"] if each["phrase"].endswith("pig"))
    assert pig["parent"] == "animal" and 0.5 <= pig["score"] <= 1 and "pig" in pig["caption"]
    data = read_labelled(out / "annotations.json", folder, task=Task.CATEGORIES)
    assert len(data.regions) == counts["regions"] and "pig" in data.categories
    # What is done is not looked at again, and a line that was cut short is done anew.
    (folder / "deeper" / "scene.png").write_bytes(b"gone")
    assert annotate(model, files, folder, out, Filters(0.5)) == counts
    done = out / "done.jsonl"
    done.write_text(done.read_text()[:-30])
    assert annotate(model, files, folder, out, Filters(0.5))["unreadable"] == 2


def test_stricter_filters_leave_less_and_count_it(folder: Path, tmp_path: Path) -> None:
    model = DynRefer.load("embedded", device="cpu")
    counts = {}
    for name, filters in {"loose": Filters(0.0, mirrored=False), "strict": Filters(0.999999)}.items():
        (tmp_path / name).mkdir()
        counts[name] = annotate(model, [folder / "deeper" / "scene.png"], folder, tmp_path / name, filters)
    assert counts["loose"]["regions"] > counts["strict"]["regions"] == 0
    assert counts["strict"]["unlikely"] + counts["strict"]["unsure_name"] > 0


def test_a_wrong_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, sentence in ((tmp_path / "missing", "is no folder"), (tmp_path, "holds no images")):
        line = refusal(monkeypatch, capsys, "annotate-data", str(given), "--out", str(tmp_path / "out"))
        assert sentence in line

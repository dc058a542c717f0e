"""What is written is on the disk before it is relied upon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from dynrefer.workbench.data.atomic import replace_text, write_atomically
from dynrefer.workbench.training.checkpoint import Checkpoints


def test_a_text_that_the_disk_refuses_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_text(tmp_path / "a.json", "before")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace_text(tmp_path / "a.json", "after")
    assert (tmp_path / "a.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]  # no temporary file is left


def test_a_file_written_in_pieces_appears_when_the_block_ends(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a.bin") as temporary, temporary.open("wb") as file:
        file.write(b"one")
        assert not (tmp_path / "a.bin").exists()
        file.write(b"two")
    assert (tmp_path / "a.bin").read_bytes() == b"onetwo"


def test_a_block_that_raises_leaves_the_file_before(tmp_path: Path) -> None:
    replace_text(tmp_path / "a.json", "before")
    with pytest.raises(ValueError, match="half"), write_atomically(tmp_path / "a.json") as temporary:
        temporary.write_text("aft")
        raise ValueError("half")
    assert (tmp_path / "a.json").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")
def test_a_checkpoint_appears_when_the_disk_holds_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, events = tmp_path / "checkpoints", list[str]()
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def replaced(path: Path, target: Path) -> Path:
        events.append(f"-> {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    model = nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    Checkpoints(folder, Accelerator(cpu=True), keep=1).save(3, model, optimiser, {"losses": {}})
    appears = events.index("-> step-00000003")
    before, after = events[:appears], events[appears + 1 :]
    # torch writes .metadata under another name first, and so does `replace_text`.
    written = {path.name for path in (folder / "step-00000003").iterdir()} - {".metadata", "progress.json"}
    assert written == {"__0_0.distcp", "random-0.pt"} and written <= set(before)
    assert any("metadata" in name for name in before) and any("progress.json" in name for name in before)
    assert before[-1] == ".step-00000003.partial"  # the folder's list of names
    assert after == ["checkpoints"]
    assert json.loads((folder / "step-00000003" / "progress.json").read_text())["step"] == 3

"""Artwork: installed in and read from the same folder, and a one-line error where the sprites are missing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrefer.workbench.evaluation import jobs, scenes
from dynrefer.workbench.scenes import artwork
from dynrefer.workbench.scenes.artwork import SpritePack, SpritesError, art_folder, unseen_style_sprites
from dynrefer.workbench.scenes.world import World
from tests.repository import ROOT
from tests.workbench.command_line import refusal


def _icons_of_unseen_style(world: World) -> dict[str, Any]:
    """An icon set as the npm package has it: a square for every icon."""
    names = {sprite.split("/")[1] for category in world.categories for sprite in category.unseen_sprites}
    square = '<path d="M1 1h14v14H1z" fill="red"/>'
    return {"icons": {name: {"body": square} for name in names}}


def _fake_npm(icons: dict[str, Any]) -> Any:
    """npm's part of an installation: one file per package below --prefix."""

    def run(command: list[str], check: bool) -> None:
        assert command[:2] == ["npm", "install"] and check
        prefix = Path(command[command.index("--prefix") + 1])
        for package in command[command.index("--prefix") + 2 :]:
            folder = prefix / "node_modules" / package.rpartition("@")[0]
            folder.mkdir(parents=True)
            (folder / "icons.json").write_text(json.dumps(icons))

    return run


@pytest.mark.parametrize("chosen", [True, False], ids=["variable", "default"])
def test_evaluate_looks_where_make_art_installs(chosen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.load()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DYNREFER_ART_CACHE", raising=False)
    if chosen:
        monkeypatch.setenv("DYNREFER_ART_CACHE", str(tmp_path / "chosen"))
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nart:")[2].splitlines()[1]
    arguments = recipe.partition("-m dynrefer.workbench.scenes.artwork ")[2].split()
    monkeypatch.setattr(subprocess, "run", _fake_npm(_icons_of_unseen_style(world)))
    artwork.main(arguments)
    assert art_folder().is_relative_to(tmp_path / ("chosen" if chosen else "home"))

    caches: list[Path] = []

    def measure(*given: object, art_cache: Path, **options: object) -> scenes.SceneResult:
        caches.append(art_cache)
        return scenes.SceneResult({}, scenes.Curves())

    monkeypatch.setattr(jobs, "measure", measure)
    monkeypatch.setattr(jobs, "text_table", lambda result: "")
    monkeypatch.setattr(jobs.Options, "load", lambda options: None)
    jobs.run(jobs.Options())
    sprites = unseen_style_sprites(world, caches[0])
    assert sprites is not None and {sprite.shape[2] for sprite in sprites.values()} == {4}


def test_a_pack_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "damaged.zip").write_bytes(b"no zip file")
    for name, reason in (("none.zip", "No such file or directory"), ("damaged.zip", "it is damaged")):
        file = tmp_path / name
        with pytest.raises(SpritesError, match=f"cannot be read from {re.escape(str(file))}: {reason}; reinstall"):
            SpritePack.load(file)
    whole = SpritePack.load()
    assert np.asarray(next(iter(whole.values()))).dtype == np.uint8


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "--model", "embedded", "--regions", "20"),
        ("evaluate", "--sweep-views"),
        ("train", "--preset", "embedded", "--out", "run"),
        ("bench", "agreement", "--regions", "4"),
    ],
    ids=" ".join,
)
def test_missing_sprites_are_one_sentence_and_exit_code_2(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "sprites.zip"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(artwork, "PACK_FILE", missing)
    sentence = refusal(monkeypatch, capsys, *command)
    assert str(missing) in sentence and "reinstall dynrefer" in sentence

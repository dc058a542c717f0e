"""Photographs as backgrounds: a lawful, reproducible pack, and scenes that say nothing of a place they do not know."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from dynrefer.workbench.scenes import photographs
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import (
    PERMITTED_LICENCES,
    PHOTOGRAPH_SIDE,
    PHOTOGRAPHS_FILE,
    Photograph,
    PhotographPack,
    PhotographsError,
    photograph_background,
    selection,
    write_pack,
)
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from tests.repository import ROOT

MEASURED = ROOT / "benchmarks" / "photographs"  # labelled photographs, which training must not see
SEEDS = range(60)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def sprites() -> SpritePack:
    return SpritePack.load()


@pytest.fixture(scope="module")
def pack() -> PhotographPack:
    return PhotographPack.load()


@pytest.fixture(scope="module")
def scenes(world: World, sprites: SpritePack, pack: PhotographPack) -> list[Scene]:
    return [draw_scene(world, sprites, seed, "train", pack, 1.0) for seed in SEEDS]


def _same(one: Scene, other: Scene) -> bool:
    return one.image.tobytes() == other.image.tobytes() and (one.scene, one.objects) == (other.scene, other.objects)


def test_every_photograph_is_permitted_and_small(pack: PhotographPack) -> None:
    assert 40 <= len(pack) <= 80 and pack.manifest == selection()
    assert PHOTOGRAPHS_FILE.stat().st_size <= 4_000_000
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for image, entry in zip(pack, pack.manifest, strict=True):
        assert entry.licence in PERMITTED_LICENCES and entry.author, entry.file
        assert f"{entry.package} {entry.version}:" in notice, entry.file
        assert image.dtype == np.uint8 and image.shape[2] == 3
        assert min(image.shape[:2]) >= PHOTOGRAPH_SIDE if entry.seamless else min(image.shape[:2]) <= PHOTOGRAPH_SIDE


def test_no_photograph_is_of_those_kept_for_measuring(pack: PhotographPack) -> None:
    forbidden = ("gcompris", "astronaut", "chelsea", "coffee", "rocket", "camera")
    assert not [entry.file for entry in pack.manifest if any(word in entry.package + entry.path for word in forbidden)]
    if not MEASURED.is_dir():
        pytest.skip("there is no benchmarks/photographs")
    texts = " ".join(file.read_text("utf-8") for file in MEASURED.rglob("*") if file.suffix in (".json", ".md", ".txt"))
    hashes = {}
    for file in MEASURED.rglob("*"):
        if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
            with Image.open(file) as image:
                hashes[file.name] = imagehash.phash(image)
    for image, entry in zip(pack, pack.manifest, strict=True):
        assert entry.path not in texts and entry.sha256 not in texts, entry.file
        ours = imagehash.phash(Image.fromarray(image))
        assert not [name for name, theirs in hashes.items() if ours - theirs <= 4], entry.file


def test_packing_gives_the_same_bytes_and_only_the_chosen_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.png").write_bytes(buffer.getvalue())
    with zipfile.ZipFile(tmp_path / "some" / "b.jar", "w") as archive:
        archive.writestr("in/b.png", buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    chosen = [
        Photograph("a.jpg", "some", "1", "a.png", digest, "who", "CC0-1.0", (0, 0.5, 1, 1)),
        Photograph("b.jpg", "some", "1", "b.jar!/in/b.png", digest, "who", "CC0-1.0"),
    ]
    assert write_pack(chosen, tmp_path, tmp_path / "1.zip") == write_pack(chosen, tmp_path, tmp_path / "2.zip")
    loaded = PhotographPack.load(tmp_path / "1.zip")
    assert list(loaded.manifest) == chosen
    assert [image.shape for image in loaded] == [(300, 900, 3), (448, 672, 3)]

    (tmp_path / "some" / "a.png").write_bytes(b"another file")
    with pytest.raises(PhotographsError, match="another file than the one chosen; take some 1"):
        write_pack(chosen, tmp_path, tmp_path / "3.zip")
    with pytest.raises(PhotographsError, match="unpack some 1 there"):
        write_pack(chosen, tmp_path / "elsewhere", tmp_path / "3.zip")


def test_a_licence_that_is_not_permitted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = photographs.SELECTION_FILE.read_text("utf-8").replace('"CC-BY-4.0"', '"CC-BY-SA-4.0"')
    (tmp_path / "photographs.json").write_text(text, "utf-8")
    monkeypatch.setattr(photographs, "SELECTION_FILE", tmp_path / "photographs.json")
    with pytest.raises(ValueError, match="licence CC-BY-SA-4.0 is not permitted"):
        selection()


def test_a_pack_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "damaged.zip").write_bytes(b"no zip file")
    for name, reason in (("none.zip", "No such file or directory"), ("damaged.zip", "it is damaged")):
        file = tmp_path / name
        with pytest.raises(PhotographsError, match=f"cannot be read from {re.escape(str(file))}: {reason}; reinstall"):
            PhotographPack.load(file)


@pytest.mark.parametrize(("width", "height"), [(160, 320), (320, 160), (224, 224)])
def test_background_has_the_size_of_the_scene(pack: PhotographPack, width: int, height: int) -> None:
    for seed in range(20):
        once, again = (photograph_background(pack, width, height, np.random.default_rng(seed)) for _ in range(2))
        assert once.shape == (height, width, 3) and once.dtype == np.uint8
        assert (once == again).all()


def test_without_photographs_nothing_changes(world: World, sprites: SpritePack, pack: PhotographPack) -> None:
    for seed in SEEDS:
        plain = draw_scene(world, sprites, seed, "train")
        assert plain.scene in world.scenes
        assert _same(plain, draw_scene(world, sprites, seed, "train", pack, 0.0))


def test_same_seed_same_scene(world: World, sprites: SpritePack, pack: PhotographPack, scenes: list[Scene]) -> None:
    assert all(_same(scenes[seed], draw_scene(world, sprites, seed, "train", pack, 1.0)) for seed in (0, 7, 31))


def test_a_share_of_the_scenes_has_photographs(
    world: World, sprites: SpritePack, pack: PhotographPack, scenes: list[Scene]
) -> None:
    half = [draw_scene(world, sprites, seed, "train", pack, 0.5) for seed in SEEDS]
    chosen = [seed for seed in SEEDS if half[seed].scene is None]
    assert 18 <= len(chosen) <= 42
    assert all(_same(half[seed], scenes[seed]) for seed in chosen)


def test_objects_stay_those_of_the_seed(world: World, sprites: SpritePack, scenes: list[Scene]) -> None:
    kept = 0
    for seed, scene in zip(SEEDS, scenes, strict=True):
        plain = draw_scene(world, sprites, seed, "train")
        assert plain.image.shape == scene.image.shape and (plain.image != scene.image).any()
        kept += [(o.sprite, o.box) for o in plain.objects] == [(o.sprite, o.box) for o in scene.objects]
    assert kept >= 0.95 * len(SEEDS)


def test_the_scene_is_unknown_and_left_unsaid(world: World, scenes: list[Scene]) -> None:
    phrases = [kind.phrase for kind in world.scene_kinds]
    for scene in scenes:
        assert scene.scene is None
        for obj in scene.objects:
            assert obj.scene is None and not set(obj.tags) & set(world.scenes) and set(obj.tags) <= set(world.tags)
            assert obj.relation in obj.tags and obj.category in obj.tags
            assert len(set(obj.captions)) == (3 if obj.relation in ("left of", "right of") else 2)
            for caption in obj.captions:
                assert not any(phrase in caption for phrase in phrases), caption
                assert f"{obj.relation} another object" in caption and obj.category in caption
                assert 4 <= len(caption.split()) <= 16 and caption == " ".join(caption.lower().split())
                assert not re.search(r"\ba [aeio]|\ban [^aeiou]", caption), caption


def test_held_out_pairs_stay_out_of_training(world: World, scenes: list[Scene]) -> None:
    for obj in (obj for scene in scenes for obj in scene.objects):
        assert (obj.attributes.get("color"), obj.category) not in world.heldout_pairs
        assert not obj.heldout_pair and not obj.heldout_sprite


def test_wrong_probability_is_refused(world: World, sprites: SpritePack, pack: PhotographPack) -> None:
    for given, probability in ((pack, 1.5), (pack, -0.1), (pack, float("nan")), (None, 0.5)):
        with pytest.raises(ValueError, match="photograph_probability is"):
            draw_scene(world, sprites, 0, "train", given, probability)

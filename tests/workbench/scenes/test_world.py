"""The world's data: its sizes, and that inconsistent files are refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynrefer.workbench.scenes.artwork import PACK_FILE, SPRITE_SIDE, SpritePack, unseen_style_sprites
from dynrefer.workbench.scenes.world import HERE, World, WorldError
from tests.repository import ROOT


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def sprites() -> SpritePack:
    return SpritePack.load()


def test_size_of_the_world(world: World) -> None:
    assert len(world.categories) >= 110
    assert sum(category.coco for category in world.categories) >= 62
    assert len({art.style for art in world.art if art.shipped}) >= 3
    assert len(world.relations) >= 6 and 8 <= len(world.scenes) <= 10 and len(world.colours) >= 10


def test_heldout_proportions(world: World) -> None:
    shipped = sum(len(category.sprites) for category in world.categories)
    assert 0.05 <= len(world.heldout_sprites) / shipped <= 0.07
    pairs = len(world.colours) * len(world.categories)
    assert 0.07 <= len(world.heldout_pairs) / pairs <= 0.09


def test_digest_is_the_files_own(world: World) -> None:
    assert world.digest == hashlib.sha256((HERE / "world.json").read_bytes()).hexdigest() == World.load().digest


def test_pack_is_the_one_that_the_world_names(world: World, sprites: SpritePack) -> None:
    assert PACK_FILE.stat().st_size <= 5_000_000
    assert hashlib.sha256(PACK_FILE.read_bytes()).hexdigest() == world.sprite_pack_sha256
    assert set(sprites) == {sprite for category in world.categories for sprite in category.sprites}


def test_pack_ships_only_what_its_licence_allows(world: World, sprites: SpritePack) -> None:
    shipped = {art.style: art.licence for art in world.art if art.shipped}
    assert {sprite.partition("/")[0] for sprite in sprites} <= set(shipped)
    assert set(shipped.values()) <= {"Apache-2.0", "MIT", "CC-BY-4.0"}


def test_notice_names_every_shipped_style(world: World) -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for art in world.art:
        if art.shipped:
            assert f"{art.package} {art.version}" in notice and art.author in notice and art.licence in notice


def test_sprites_are_cropped_tight(sprites: SpritePack) -> None:
    for name in sprites:
        height, width, channels = sprites[name].shape
        assert channels == 4 and max(height, width) <= SPRITE_SIDE, name
        alpha = sprites[name][..., 3]
        assert min(alpha[0].max(), alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) > 0, name


def test_unseen_style_is_none_where_not_installed(world: World, tmp_path: Path) -> None:
    assert unseen_style_sprites(world, tmp_path) is None


@dataclass(frozen=True)
class _Labelled:
    attributes: dict[str, str]


def test_attribute_targets_mask_unknown_types(world: World) -> None:
    targets = world.attribute_targets(_Labelled({"color": "red", "size": "medium", "optical": "opaque"}))
    found = {attribute.name: int(target) for attribute, target in zip(world.attributes, targets, strict=True)}
    assert found["color:red"] == 1 and found["color:blue"] == 0
    assert found["size:small"] == found["size:large"] == 0
    assert found["optical:opaque"] == 1 and found["optical:transparent"] == 0
    assert found["pattern:plain"] == found["tone:dark"] == found["pose:tilted"] == -1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("heldout_pairs", [["mauve", "dog"]], "no such pair as mauve dog"),
        ("heldout_sprites", ["noto/nothing"], "noto/nothing"),
        ("relations", ["left of", "left of"], "'left of' is there twice"),
        ("colours", None, "missing or unknown entry"),
    ],
)
def test_inconsistent_files_are_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    data = json.loads((HERE / "world.json").read_text(encoding="utf-8"))
    data[key] = value
    path = tmp_path / "world.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(WorldError, match=message):
        World.load(path)

"""What the converser perceives of drawn scenes, computed once and kept in a folder, by several processes.

Perception is not trained, so a training reads arrays. A file holds `CHUNK` scenes of consecutive seeds; it appears
whole or not at all, so a stopped run goes on with those that are missing. Scenes are drawn again from their seeds
where their truth is needed, which is fast.

Shapes: as in `seen.py`; M = objects that the scene truly has.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.networks.converse.embedded.seen import SeenImage, SeenObjects
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

FIRST_SEED = 5_000_000_000  # of training scenes
FIRST_VALIDATION_SEED = 5_900_000_000  # of those by which thresholds and calibration are chosen
CHUNK = 50  # scenes of a file
_JITTER = 0.06  # of the box's side: what a client draws is never as tight as a drawn object's box
_ARRAYS = ("boxes", "objectness", "features", "categories", "attributes")


@dataclass(frozen=True, slots=True, eq=False)
class PerceivedScene:
    """seed: of the scene. image: what is seen of it. regions: what is seen of its M true objects, as if each had been
    pointed at, in boxes that are not quite theirs."""

    seed: int
    image: SeenImage
    regions: SeenObjects


def draw(seed: int) -> Scene:
    """The training scene of a seed: no withheld pair of colour and name, no withheld artwork."""
    world, sprites = _parts()
    return draw_scene(world, sprites, seed, "train")


def perceive(folder: Path, first_seed: int, count: int, processes: int) -> None:
    """Fill the folder with what is seen of `count` scenes, rounded up to whole files; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in _starts(first_seed, count) if not _file(folder, seed).is_file()]
    if not missing:
        return
    if processes <= 1:
        for seed in missing:
            _perceive_chunk(folder, seed)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(min(processes, len(missing)), mp_context=context) as executor:
        for number, _ in enumerate(executor.map(_perceive_chunk, [folder] * len(missing), missing), 1):
            print(f"perceived {number * CHUNK} of {len(missing) * CHUNK} scenes", flush=True)


def read_perceived(folder: Path, first_seed: int, count: int) -> list[PerceivedScene]:
    """What `perceive` wrote, in the order of seeds; files that are missing are left out."""
    found: list[PerceivedScene] = []
    for seed in _starts(first_seed, count):
        path = _file(folder, seed)
        if path.is_file():
            found.extend(_read(path))
    return found[:count]


def _starts(first_seed: int, count: int) -> range:
    return range(first_seed, first_seed + count, CHUNK)


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.npz"


@lru_cache(maxsize=1)
def _parts() -> tuple[World, SpritePack]:
    return World.load(), SpritePack.load()


def _perceive_chunk(folder: Path, first_seed: int) -> None:
    import torch

    torch.set_num_threads(1)
    perceiver = _perceiver()
    scenes = []
    for seed in range(first_seed, first_seed + CHUNK):
        scene = draw(seed)
        size = (scene.image.shape[1], scene.image.shape[0])
        image = perceiver.image(scene.image, size)
        boxes = jittered([each.box for each in scene.objects], size, np.random.default_rng((7, seed)))
        regions = perceiver.regions(scene.image, size, boxes.tolist(), image.photograph)
        scenes.append(PerceivedScene(seed, image, regions))
    with write_atomically(_file(folder, first_seed)) as path, path.open("wb") as file:
        np.savez(file, allow_pickle=False, **_arrays(scenes))


@lru_cache(maxsize=1)
def _perceiver():  # type: ignore[no-untyped-def]  # the class imports torch, which reading what is perceived does not need
    from dynrefer.model.loading import load_model, model_directory
    from dynrefer.model.networks.converse.embedded.perception import Perceiver
    from dynrefer.model.networks.finder.loading import load_finder

    loaded = load_model("embedded", device="cpu", dtype="float32")
    finder = load_finder("embedded", model_directory("embedded"), loaded)
    assert finder is not None
    return Perceiver(loaded, finder)


def jittered(boxes: Sequence[Sequence[float]], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Boxes (M, 4), each side moved by a few hundredths of the box's, inside the image."""
    given = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = np.tile(given[:, 2:] - given[:, :2], (1, 2))
    moved = given + sides * rng.uniform(-_JITTER, _JITTER, given.shape)
    return np.clip(moved, 0, np.array(size * 2, np.float32)).astype(np.float32)


def _arrays(scenes: Sequence[PerceivedScene]) -> dict[str, NDArray[np.generic]]:
    """The scenes one after another, with the number of rows that each has."""
    found: dict[str, NDArray[np.generic]] = {
        "seeds": np.array([each.seed for each in scenes], np.int64),
        "sizes": np.array([each.image.size for each in scenes], np.int32),
        "whole_features": np.stack([each.image.features for each in scenes]).astype(np.float16),
        "whole_tags": np.stack([each.image.tags for each in scenes]).astype(np.float16),
        "photograph": np.array([each.image.photograph for each in scenes], np.float32),
    }
    for prefix, parts in (
        ("object", [each.image.objects for each in scenes]),
        ("region", [each.regions for each in scenes]),
    ):
        joined = SeenObjects.joined(parts)
        found[f"{prefix}_counts"] = np.array([len(part) for part in parts], np.int32)
        for name in _ARRAYS:
            found[f"{prefix}_{name}"] = getattr(joined, name).astype(np.float32 if name == "boxes" else np.float16)
    return found


def _read(path: Path) -> Iterator[PerceivedScene]:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    rows = {prefix: np.cumsum(np.append(0, arrays[f"{prefix}_counts"])) for prefix in ("object", "region")}
    for place, seed in enumerate(arrays["seeds"].tolist()):
        parts = {}
        for prefix, edges in rows.items():
            own = slice(int(edges[place]), int(edges[place + 1]))
            parts[prefix] = SeenObjects(*(arrays[f"{prefix}_{name}"][own].astype(np.float32) for name in _ARRAYS))
        width, height = arrays["sizes"][place].tolist()
        image = SeenImage(
            (width, height),
            parts["object"],
            arrays["whole_features"][place].astype(np.float32),
            arrays["whole_tags"][place].astype(np.float32),
            float(arrays["photograph"][place]),
        )
        yield PerceivedScene(seed, image, parts["region"])

"""The scenes that a training run draws once and keeps in memory: drawing costs five times what cropping does."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

_CHUNK = 100  # scenes per task of a worker

_parts: tuple[World, SpritePack] | None = None  # of a worker process, loaded once in it


def draw_pool(first_seed: int, count: int, workers: int) -> list[Scene]:
    """`count` training scenes from consecutive seeds, drawn by `workers` processes; about 0.15 MB each."""
    starts = range(first_seed, first_seed + count, _CHUNK)
    sizes = [min(_CHUNK, first_seed + count - start) for start in starts]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        return [scene for chunk in executor.map(_draw_chunk, starts, sizes) for scene in chunk]


def _draw_chunk(first_seed: int, count: int) -> list[Scene]:
    global _parts
    if _parts is None:
        _parts = (World.load(), SpritePack.load())
    world, sprites = _parts
    return [draw_scene(world, sprites, seed, "train") for seed in range(first_seed, first_seed + count)]

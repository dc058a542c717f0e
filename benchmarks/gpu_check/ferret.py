"""A Ferret-v2 of the paper's sizes with random weights: loading, the first token, tokens a second, memory. On a CPU the
tiny preset, to try the part itself."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from dynrefer.model.conversation import Conversation, Message, NamedRegion, Role
from dynrefer.model.conversing import ConverseTurn
from dynrefer.model.loading import pick_dtype
from dynrefer.model.networks.converse.ferret.config import preset
from dynrefer.model.networks.converse.ferret.converser import FerretConverser
from dynrefer.model.networks.converse.ferret.directory import load_ferret, save_ferret
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.profiling.machine import synchronize
from dynrefer.workbench.random_ferret import byte_tokenizer, random_ferret

TOGETHER = (1, 4, 16)
TOKENS = 33  # of an answer: the first, and 32 that are timed
SIZE = (640, 480)


def measure(given: Conditions) -> Iterator[Figure]:
    """Every figure as it is known: the part may be cut before its end."""
    dtype, folder = pick_dtype("auto", given.on), given.folder / "ferret"
    config = preset("ferret-v2-7b" if given.is_gpu else "tiny")
    model = random_ferret(config, given.on, dtype)
    model.language.lm_head.weight[config.language_config.eos_token_id] = 0  # its logit is 0: answers do not end
    save_ferret(model, byte_tokenizer(), folder)
    del model
    if given.is_gpu:
        torch.cuda.empty_cache()
    started = time.perf_counter()
    speaker = load_ferret(folder, given.on, dtype)
    synchronize(given.on)
    yield Figure("ferret", "loading", time.perf_counter() - started, "s")
    if given.is_gpu:
        yield Figure("ferret", "memory after loading", torch.cuda.memory_allocated(given.on) / 1e9, "GB")
    _timed(speaker, [replace(turn, piece=2) for turn in _turns(speaker, 2)], given.on)  # the first calls are slow
    for count in TOGETHER:
        yield from _conversations(speaker, count, given)


def _conversations(speaker: FerretConverser, count: int, given: Conditions) -> Iterator[Figure]:
    """So many about an image each, all going on together."""
    speaker.forget()
    turns = _turns(speaker, count)
    if given.is_gpu:
        torch.cuda.reset_peak_memory_stats(given.on)
    first, begun = _timed(speaker, [replace(turn, piece=1) for turn in turns], given.on)
    rest, spoken = _timed(speaker, [replace(turn, piece=TOKENS - 1) for turn in begun], given.on)
    written = sum(len(turn.written) for turn in spoken) - count
    name = f"{count} conversation{'s' if count > 1 else ''}"
    yield Figure("ferret", f"{name}, first token of each", first / count, "s")
    yield Figure("ferret", f"{name}, later tokens", written / rest, "tokens/s", ok=written == count * (TOKENS - 1))
    if given.is_gpu:
        yield Figure("ferret", f"{name}, peak memory", torch.cuda.max_memory_allocated(given.on) / 1e9, "GB")


def _turns(speaker: FerretConverser, count: int) -> list[ConverseTurn]:
    region = NamedRegion("a", RegionQuery(box=(50, 60, 300, 400)))
    asked = Conversation((Message(Role.USER, "What is <region:a>?"),), (region,), max_tokens=TOKENS)
    turns: list[ConverseTurn] = []
    for seed in range(count):
        picture = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        turns += speaker.spec.prepare_each(picture, [asked])
    return turns


def _timed(
    speaker: FerretConverser, turns: list[ConverseTurn], device: torch.device
) -> tuple[float, list[ConverseTurn]]:
    """Seconds, and the turns that go on from there."""
    synchronize(device)
    started = time.perf_counter()
    spoken = speaker.converse(turns, lambda: False)
    synchronize(device)
    seconds = time.perf_counter() - started
    return seconds, [turn.after(each) for turn, each in zip(turns, spoken, strict=True)]

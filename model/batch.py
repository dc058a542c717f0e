"""One batch on the device: views of any number of regions -> representations -> the outputs of the tasks.

Shapes: R = inputs (a region with one view plan), Q = region tokens, C = channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.cache import FeatureCache
from dynrefer.model.errors import StoppedError
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.identification import identify
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.kernels.transfers import upload
from dynrefer.model.preparation import RegionInput
from dynrefer.model.representation import represent
from dynrefer.model.tasks import DEVICE_STAGES, RUN_ORDER
from dynrefer.model.tasks.attributes import AttributesTask
from dynrefer.model.tasks.definition import TaskBatch
from dynrefer.model.tasks.scoring import Floats, rows_on_cpu
from dynrefer.model.tasks.tags import TagsTask
from dynrefer.model.text_embeddings import WordScores, control_tags, own_tasks


class RawOutputs(dict[str, Any]):
    """The outputs of one input: task name -> what its `run` computed. Includes tasks that a requested one needs.

    identity: what the region's object is, where the model decides that before its tasks.
    asked: task -> logits (S,) of the request's own words that the text tower scores; see `asked_words.AskedTask`.
    prompts: (P,) logits of the attributes' prompts, where the input asks for them.
    """

    identity: Identity | None = None
    asked: Mapping[str, Floats] = MappingProxyType({})
    prompts: Floats | None = None


@dataclass(frozen=True, slots=True)
class RegionOutput:
    """The device's part of a region. outputs: one `RawOutputs` per input; timings_ms: of the batch, by stage."""

    outputs: tuple[RawOutputs, ...]
    timings_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """outputs: per input, in order. timings_ms: of the batch, by stage (`DEVICE_STAGES`). parts_ms: the same time in
    finer parts: shared (looking up what other processes computed), encode, represent, identify, words (of requests),
    and one per task."""

    outputs: list[RawOutputs]
    timings_ms: dict[str, float]
    parts_ms: dict[str, float]


_STAGE_OF_PART = {
    "shared": "vision",
    "encode": "vision",
    "represent": "vision",
    "identify": "vision",
    "words": TagsTask.stage,
    **{task.name: task.stage for task in RUN_ORDER},
}


class _Clock:
    """Time spent in each part, in milliseconds. Waits for the device, so that each part is charged its own work.

    After each part it polls `should_stop`, and raises `StoppedError` if that returns true.
    """

    def __init__(self, device: torch.device, should_stop: Callable[[], bool] | None) -> None:
        self._device, self._should_stop, self._last = device, should_stop, time.perf_counter()
        self.timings: dict[str, float] = {}

    def lap(self, part: str) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self.timings[part] = self.timings.get(part, 0.0) + (now - self._last) * 1e3
        self._last = now
        if self._should_stop and self._should_stop():
            raise StoppedError("the batch was cancelled: no client waits for its results.")


@torch.inference_mode()
def run_batch(
    loaded: LoadedModel,
    inputs: Sequence[RegionInput],
    cache: FeatureCache,
    should_stop: Callable[[], bool] | None = None,
) -> BatchResult:
    """Run one batch.

    should_stop: polled between the parts of the work and between caption tokens; `StoppedError` if it returns true.
    """
    clock = _Clock(loaded.device, should_stop)
    region, new = represent(loaded, inputs, cache, clock.lap)
    new.keep()
    identities = identify(loaded, region, inputs, cache)
    clock.lap("identify")
    words = WordScores(loaded, region, inputs, cache, should_stop)
    clock.lap("words")  # waits for the device
    outputs = _run_tasks(loaded, region, inputs, (identities, words.take()), clock, should_stop)
    if rows := [row for row, each in enumerate(inputs) if each.prompts]:
        found = rows_on_cpu(loaded.inference.score_attribute_prompts(_rows(region, rows)))
        for row, prompts in zip(rows, found, strict=True):
            outputs[row].prompts = prompts
        clock.lap(AttributesTask.name)
    return BatchResult(outputs, stage_times(clock.timings), clock.timings)


def stage_times(parts_ms: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by stage (`DEVICE_STAGES`), from those by part."""
    timings = dict.fromkeys(DEVICE_STAGES, 0.0)
    for part, spent in parts_ms.items():
        timings[_STAGE_OF_PART[part]] += spent
    return timings


def _run_tasks(
    loaded: LoadedModel,
    region: Tensor,
    inputs: Sequence[RegionInput],
    found: tuple[Sequence[Identity | None], Sequence[Mapping[str, Floats]]],
    clock: _Clock,
    should_stop: Callable[[], bool] | None,
) -> list[RawOutputs]:
    """Every task once, for the inputs that request it and for those whose tasks need it.

    region: (R, Q, C). found: per input, its identity and the logits of its request's own words.
    """
    identities = found[0]
    wanted = [own_tasks(loaded, each) for each in inputs]
    outputs = [RawOutputs() for _ in inputs]
    for output, identity, words in zip(outputs, *found, strict=True):
        output.identity, output.asked = identity, words
    tags = [control_tags(loaded, each, words) for each, words in zip(inputs, found[1], strict=True)]
    for task in RUN_ORDER:
        rows = [i for i, names in enumerate(wanted) if task.name in names]
        if rows:
            needed = {name: [outputs[i].get(name) for i in rows] for name in task.needs}
            controls, writing = [inputs[i].controls for i in rows], [inputs[i].writing for i in rows]
            named = [identities[i] for i in rows]
            own = [tags[i] for i in rows]
            some = TaskBatch(_rows(region, rows), controls, writing, needed, named, should_stop, own)
            for i, output in zip(rows, task.run(loaded, some), strict=True):
                outputs[i][task.name] = output
        clock.lap(task.name)
    return outputs


def rows_index(rows: Sequence[int], device: torch.device) -> Tensor:
    """Indices of rows, (M,) int64 on the device."""
    return upload(torch.tensor(rows), device)


def _rows(region: Tensor, rows: Sequence[int]) -> Tensor:
    return region if len(rows) == len(region) else region[rows_index(rows, region.device)]

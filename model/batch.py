"""One batch on the device: views of any number of regions -> representations -> the outputs of the tasks.

Shapes: N = distinct views, R = inputs (a region with one view plan), V = views of an input, Q = region tokens,
C = channels.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.cache import Digest, FeatureCache, region_digest
from dynrefer.model.errors import StoppedError
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.identification import identify
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.preparation import RegionInput
from dynrefer.model.tasks import DEVICE_STAGES, RUN_ORDER, with_needs
from dynrefer.model.tasks.definition import TaskBatch


class RawOutputs(dict[str, Any]):
    """The outputs of one input: task name -> what its `run` computed. Includes tasks that a requested one needs.

    identity: what the region's object is, where the model decides that before its tasks.
    """

    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """outputs: per input, in order. timings_ms: of the batch, by stage (`DEVICE_STAGES`). parts_ms: the same time in
    finer parts: encode, represent, identify, and one per task."""

    outputs: list[RawOutputs]
    timings_ms: dict[str, float]
    parts_ms: dict[str, float]


_STAGE_OF_PART = {
    "encode": "vision",
    "represent": "vision",
    "identify": "vision",
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
    region = _represent(loaded, inputs, cache, clock)
    identities = identify(loaded, region, inputs, cache)
    clock.lap("identify")
    outputs = _run_tasks(loaded, region, inputs, identities, clock, should_stop)
    timings = dict.fromkeys(DEVICE_STAGES, 0.0)
    for part, spent in clock.timings.items():
        timings[_STAGE_OF_PART[part]] += spent
    return BatchResult(outputs, timings, clock.timings)


def _run_tasks(
    loaded: LoadedModel,
    region: Tensor,
    inputs: Sequence[RegionInput],
    identities: Sequence[Identity | None],
    clock: _Clock,
    should_stop: Callable[[], bool] | None,
) -> list[RawOutputs]:
    """Every task once, for the inputs that request it and for those whose tasks need it; region: (R, Q, C)."""
    wanted = [with_needs(each.tasks) for each in inputs]
    outputs = [RawOutputs() for _ in inputs]
    for output, identity in zip(outputs, identities, strict=True):
        output.identity = identity
    for task in RUN_ORDER:
        rows = [i for i, names in enumerate(wanted) if task.name in names]
        if rows:
            needed = {name: [outputs[i][name] for i in rows] for name in task.needs}
            controls, named = [inputs[i].controls for i in rows], [identities[i] for i in rows]
            some = TaskBatch(_rows(region, rows), controls, needed, named, should_stop)
            for i, output in zip(rows, task.run(loaded, some), strict=True):
                outputs[i][task.name] = output
        clock.lap(task.name)
    return outputs


def _represent(loaded: LoadedModel, inputs: Sequence[RegionInput], cache: FeatureCache, clock: _Clock) -> Tensor:
    """(R, Q, C) float32. Inputs that are equal, in this batch or in the cache, are computed once."""
    revision = f"{loaded.network.config.revision} {loaded.dtype}"
    keys = [region_digest(revision, each.views.digests, each.views.boxes) for each in inputs]
    found = {key: cache.regions.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    computed = _compute(loaded, [inputs[keys.index(key)] for key in missing], revision, cache, clock)
    found |= dict(zip(missing, computed, strict=True))
    if cache.regions.capacity:
        for place in _finite_rows(computed):
            own = computed[place].clone()  # a view would keep the whole batch in memory
            cache.regions.put(missing[place], own, own.nbytes)
    if len(missing) < len(keys):
        computed = torch.stack([row for key in keys if (row := found[key]) is not None])
    clock.lap("represent")
    return computed


def _compute(
    loaded: LoadedModel, inputs: Sequence[RegionInput], revision: str, cache: FeatureCache, clock: _Clock
) -> Tensor:
    """Representations of distinct inputs, (R, Q, C)."""
    config = loaded.network.config
    if not inputs:
        return torch.empty(0, config.num_queries, config.qformer_config.hidden_size, device=loaded.device)
    features = _encode(loaded, inputs, revision, cache)
    clock.lap("encode")
    boxes = torch.from_numpy(np.stack([each.views.boxes for each in inputs])).to(loaded.device)
    return loaded.network.represent_in_parts(features, boxes)


def _encode(loaded: LoadedModel, inputs: Sequence[RegionInput], revision: str, cache: FeatureCache) -> VisionFeatures:
    """Features of all views of the inputs, in order; equal views are encoded once."""
    index, images = list[Digest](), dict[Digest, NDArray[np.uint8]]()
    for each in inputs:
        for digest, image in zip(each.views.digests, each.views.images, strict=True):
            index.append(digest)
            images.setdefault(digest, image)
    keys = {digest: revision.encode() + digest for digest in images}
    cached = {digest: cache.views.get(keys[digest]) for digest in images}
    new = [digest for digest, features in cached.items() if features is None]
    parts = [features for features in cached.values() if features is not None]
    if new:
        stacked = torch.from_numpy(np.stack([images[each] for each in new]))
        encoded = loaded.network.encode_in_parts(stacked.to(loaded.device))
        parts.append(encoded)
        for place in _finite_rows(encoded.map, encoded.cls) if cache.views.capacity else ():
            one = encoded.at(place)
            cache.views.put(keys[new[place]], one, one.nbytes)
    order = [digest for digest, features in cached.items() if features is not None] + new
    if order == index:
        return VisionFeatures.join(parts)
    places = {digest: place for place, digest in enumerate(order)}
    rows = torch.tensor([places[digest] for digest in index], device=loaded.device)
    return VisionFeatures.join(parts).take(rows)


def _finite_rows(values: Tensor, others: Tensor | None = None) -> list[int]:
    """The rows without NaN or infinity: a transient fault of the device must not be cached."""
    finite = values.isfinite().flatten(1).all(dim=1)
    if others is not None:
        finite &= others.isfinite().all(dim=1)
    rows: list[int] = finite.nonzero().flatten().tolist()
    return rows


def _rows(region: Tensor, rows: Sequence[int]) -> Tensor:
    return region if len(rows) == len(region) else region[torch.tensor(rows, device=region.device)]

"""The model alone: batches through `bench model`, the plain way beside them, the vision tower and the norms."""

import statistics
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure, rate_name
from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.loading import LoadedModel
from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.profiling.machine import gemm_gflops, median_seconds, synchronize
from dynrefer.workbench.profiling.model_speed import DTYPES
from dynrefer.workbench.profiling.operation_counts import count_costs
from dynrefer.workbench.profiling.workload import random_config, random_inputs, random_model
from tests.model.reference_batch import reference_batch

TASKS = ("all", "tags", "caption")


def measure(given: Conditions) -> Iterator[Figure]:
    """The largest batches come last: what the time does not allow is cut from behind."""
    loaded = _model(given, plain=False)
    yield from towers(given, loaded)
    rates = {}
    for regions in given.batches:
        for tasks in TASKS:
            seconds, parts = _batch(given, loaded, regions, tasks)
            rates[regions, tasks] = regions / seconds
            yield Figure("speed", rate_name(regions, tasks), regions / seconds, "regions/s", detail=parts)
            if (regions, tasks) == (1, "all"):
                yield Figure("speed", "1 region, all, time", seconds * 1e3, "ms")
    if given.is_gpu:
        yield from own_norms(given, loaded)
        yield Figure("speed", "memory of weights and largest batch", _peak_gb(given), "GB")
    del loaded
    plain = _model(given, plain=True)
    for regions in given.plain_batches:
        inputs = random_inputs(plain.network.config, regions, ALL_TASKS)
        took = _median(given, lambda inputs=inputs: reference_batch(plain, inputs))  # type: ignore[misc]
        name, rate = f"plain way, {rate_name(regions, 'all')}", regions / took
        yield Figure("speed", name, rate, "regions/s")
        yield Figure("speed", f"{rate_name(regions, 'all')}, over the plain way", rates[regions, "all"] / rate)


def towers(given: Conditions, loaded: LoadedModel) -> Iterator[Figure]:
    """The tower's share of the rate of a large square product in the same dtype, measured just before."""
    inputs = random_inputs(loaded.network.config, 1, ALL_TASKS)
    operations = count_costs(given.preset, given.work, 1, loaded.dtype)["encode"].operations / len(
        inputs[0].views.images
    )
    encode = _encoder(loaded)
    size = loaded.network.config.view_size
    for views in given.towers:
        images = torch.randint(0, 256, (views, 3, size, size), dtype=torch.uint8, device=given.on)
        peak = gemm_gflops(loaded.dtype, given.on, repeats=3)
        with torch.inference_mode():
            seconds = median_seconds(lambda images=images: encode(images), given.repeats, given.on)  # type: ignore[misc]
        rate = views * operations / seconds / 1e9
        detail = {"ms": round(seconds * 1e3, 2), "gflops": round(rate, 1), "product_gflops": round(peak, 1)}
        yield Figure("speed", f"vision, {views} views", rate / peak, "of the product rate", detail=detail)


def own_norms(given: Conditions, loaded: LoadedModel) -> Iterator[Figure]:
    """Captions of the measured size with transformers' own norms: the share that is the same, and what they cost."""
    regions = given.batches[-1]
    inputs = random_inputs(loaded.network.config, regions, ALL_TASKS)
    found = run_batch(loaded, inputs, FeatureCache(0)).outputs
    with patch("dynrefer.model.networks.kernels.choice.use_fused_norms", lambda network: None):
        own = _model(given, plain=False)
    expected = run_batch(own, inputs, FeatureCache(0)).outputs
    same = [a[Task.CAPTION].tokens == b[Task.CAPTION].tokens for a, b in zip(found, expected, strict=True)]
    yield Figure("speed", f"{regions} random captions as with transformers' own norms", sum(same) / len(same))


def _model(given: Conditions, *, plain: bool) -> LoadedModel:
    config = random_config(given.preset, given.work)
    return random_model(config, given.work, given.on, DTYPES[given.dtype], plain=plain)


def _encoder(loaded: LoadedModel) -> Any:
    """The tower as inference calls it."""
    return loaded.inference.encode


def _batch(given: Conditions, loaded: LoadedModel, regions: int, tasks: str) -> tuple[float, dict[str, float]]:
    """Median seconds and milliseconds by part."""
    chosen = ALL_TASKS if tasks == "all" else (Task(tasks),)
    inputs = random_inputs(loaded.network.config, regions, chosen)
    parts: list[dict[str, float]] = []
    seconds = _median(given, lambda: parts.append(run_batch(loaded, inputs, FeatureCache(0)).parts_ms))
    return seconds, {name: round(statistics.median(one[name] for one in parts[1:]), 2) for name in parts[-1]}


def _median(given: Conditions, work: Any) -> float:
    """Seconds of one call, after a warm-up."""
    work()
    times = []
    for _ in range(given.repeats):
        synchronize(given.on)
        began = time.perf_counter()
        work()
        synchronize(given.on)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _peak_gb(given: Conditions) -> float:
    return float(torch.cuda.max_memory_allocated(given.on)) / 1e9

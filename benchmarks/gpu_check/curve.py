"""What one device does per second, for a reckoning of many: the service time of batches by their size, regions per
second by how many are on the device, and the machine's ceilings. No HTTP; the `service` part adds that.
"""

import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure, rate_name
from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.loading import LoadedModel
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import PreparedRegion
from dynrefer.model.types import ALL_TASKS, RegionQuery, Task
from dynrefer.workbench.profiling.machine import copy_gb_s, every_seconds, gemm_gflops, median_seconds
from dynrefer.workbench.profiling.model_speed import DTYPES
from dynrefer.workbench.profiling.workload import random_config, random_inputs, random_model

TASKS = {"all": ALL_TASKS, "tags": (Task.TAGS,)}
POOL = 96  # regions that take turns, more than are on the device at a time
# As many as the service lets join: those whose captions are written, and those whose views are computed meanwhile.
MORE_IN_FLIGHT = {True: (80,), False: ()}
WARM_UP = 0.2  # fraction of a run in which regions are not counted


def measure(given: Conditions) -> Iterator[Figure]:
    """The ceilings, then batches, then regions that join at any time: what is cut is cut from behind."""
    yield from ceilings(given)
    config = random_config(given.preset, given.work)
    loaded = random_model(config, given.work, given.on, DTYPES[given.dtype])
    for tasks in TASKS:
        for regions in given.curve_batches:
            yield batch(given, loaded, regions, tasks)
    for tasks in TASKS:
        for regions in (*given.curve_batches, *MORE_IN_FLIGHT[given.is_gpu]):
            yield continuous(given, loaded, regions, tasks)


def ceilings(given: Conditions) -> Iterator[Figure]:
    """What the machine can do at most: products, copies on the device, and to it."""
    product = gemm_gflops(DTYPES[given.dtype], given.on) / 1e3
    yield Figure("curve", f"product, {given.dtype}", product, "TFLOP/s")
    yield Figure("curve", "device to device", copy_gb_s(given.on), "GB/s", detail={"counted": "read and written"})
    if not given.is_gpu:
        return
    size = 1 << 28
    target = torch.empty(size, dtype=torch.uint8, device=given.on)
    for kind in ("page-locked", "pageable"):
        source = torch.ones(size, dtype=torch.uint8, pin_memory=kind == "page-locked")
        seconds = median_seconds(lambda source=source: target.copy_(source), 5, given.on)  # type: ignore[misc]
        yield Figure("curve", f"host to device, {kind}", size / seconds / 1e9, "GB/s", detail={"bytes": size})


def batch(given: Conditions, loaded: LoadedModel, regions: int, tasks: str) -> Figure:
    """The median time of a whole batch, crops on the host to outputs on the host, caches off."""
    inputs = random_inputs(loaded.network.config, regions, TASKS[tasks])
    times = every_seconds(lambda: run_batch(loaded, inputs, FeatureCache(0)), given.repeats, given.on)
    detail = {"regions": regions, "tasks": tasks, "runs": len(times)}
    detail |= {"least_s": round(min(times), 5), "most_s": round(max(times), 5)}
    return Figure("curve", f"batch of {rate_name(regions, tasks)}", statistics.median(times), "s", detail=detail)


def continuous(given: Conditions, loaded: LoadedModel, in_flight: int, tasks: str) -> Figure:
    """Regions per second where a region that leaves is replaced at once, so that always so many are there."""
    here = DynRefer(loaded, batching="continuous").continuous()
    if here is None:
        raise SystemExit("there is no continuous batch on this device.")
    every = itertools.cycle(prepared(loaded, TASKS[tasks]))
    began: dict[int, float] = {}
    ended: list[tuple[float, float]] = []  # when, and how long it was there
    start = time.perf_counter()
    until = start + given.curve_s
    while (now := time.perf_counter()) < until:
        if (wanted := min(in_flight - len(began), here.room.regions, _fitting(here.room.views, loaded))) > 0:
            began |= dict.fromkeys(here.admit(list(itertools.islice(every, wanted))), now)
        for ticket, _ in here.advance():
            ended.append((time.perf_counter(), time.perf_counter() - began.pop(ticket)))
    here.drop(list(began))
    return _rate(f"continuous, {in_flight} in flight, {tasks}", in_flight, tasks, start, until, ended)


def _fitting(views: int, loaded: LoadedModel) -> int:
    return views // loaded.network.config.num_views


def _rate(
    name: str, in_flight: int, tasks: str, start: float, until: float, ended: list[tuple[float, float]]
) -> Figure:
    first = start + WARM_UP * (until - start)
    times = [seconds for when, seconds in ended if when >= first]
    detail: dict[str, float | str] = {
        "in_flight": in_flight,
        "tasks": tasks,
        "seconds": round(until - first, 2),
        "regions": len(times),
    }
    if times:
        detail |= {f"p{q}_s": round(float(np.percentile(times, q)), 4) for q in (50, 99)}
    return Figure("curve", name, len(times) / (until - first), "regions/s", detail=detail)


def prepared(loaded: LoadedModel, tasks: tuple[Task, ...]) -> list[PreparedRegion]:
    """Regions of random crops, as image workers hand them over."""
    query = RegionQuery((0.0, 0.0, 1.0, 1.0), tasks)
    inputs = random_inputs(loaded.network.config, POOL, tasks)
    return [PreparedRegion(query, query.box, False, (each,), {}) for each in inputs]

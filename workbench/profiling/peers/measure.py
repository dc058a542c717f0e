"""`python -m dynrefer.workbench.profiling.peers.measure PLAN`: measure one model in a process of its own, so that its
peak memory is its own. Prints a row as one line of JSON as soon as it is measured."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dynrefer.workbench.profiling.machine import synchronize
from dynrefer.workbench.profiling.peers.models import BOXES, CAPTION, ONCE, RegionModel, build, scene
from dynrefer.workbench.profiling.peers.published import MODELS

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FLOAT32_BYTES = 10e9  # models whose weights take more run in bfloat16 on a CPU
# A first pass that takes this long is measured, not thrown away: what it warms up is small beside it.
LONG_PASS_S = 10.0


@dataclass(frozen=True)
class ModelPlan:
    """One model's measurement. name: of `MODELS`. dtype: auto, float32, bfloat16. device: cpu, cuda, cuda:N.

    threads: of a CPU; None: all. row_seconds: no further pass begins once a row's passes have taken as long.
    tiny: for tests.
    """

    name: str
    regions: int
    batches: tuple[int, ...]
    repeats: int
    tokens: int
    dtype: str
    device: str
    threads: int | None
    row_seconds: float
    tiny: bool = False


def measure(plan: ModelPlan) -> Iterator[dict[str, Any]]:
    """One row per batch size and way of asking the model, JSON-ready; batch sizes ascend."""
    published, device = MODELS[plan.name], torch.device(plan.device)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    dtype = plan_dtype(plan)
    model = build(published, tokens=plan.tokens, tiny=plan.tiny, device=device, dtype=DTYPES[dtype])
    for way in model.ways:
        for batch in sorted(plan.batches):
            if batch > plan.regions or (way == ONCE and batch == 1):  # there is nothing to share
                continue
            yield {
                "model": plan.name,
                "title": published.title,
                "parameters": model.parameters,
                "weights_gb": round(model.weight_bytes / 1e9, 2),
                "dtype": dtype,
                "way": way,
                "batch": batch,
                "image": model.image_tokens(scene(), BOXES[0]),
                "prompt_tokens": published.prompt_tokens,
                "generation": dict(published.generation),
                "beside_a_caption": "nothing (caption alone)" if way == CAPTION else published.answers,
                **_row(model, plan, way, batch, device),
            }


def plan_dtype(plan: ModelPlan) -> str:
    """The plan's own; auto: bfloat16 on a GPU, and on a CPU where the weights in float32 take over 10 GB."""
    if plan.dtype != "auto":
        return plan.dtype
    large = 4e9 * MODELS[plan.name].billions > FLOAT32_BYTES
    return "bfloat16" if large or torch.device(plan.device).type == "cuda" else "float32"


def _row(model: RegionModel, plan: ModelPlan, way: str, batch: int, device: torch.device) -> dict[str, Any]:
    image, boxes = scene(), (BOXES * (1 + plan.regions // len(BOXES)))[: plan.regions]
    starts = range(0, plan.regions - batch + 1, batch)
    wanted = [boxes[start : start + batch] for start in starts] * plan.repeats
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first = _seconds(lambda: model.captions(image, wanted[0], way), plan.tokens, device)
    passes = [first] if first >= LONG_PASS_S else []
    for some in wanted[len(passes) :]:
        if passes and sum(passes) >= plan.row_seconds:
            break
        passes.append(_seconds(lambda some=some: model.captions(image, some, way), plan.tokens, device))  # type: ignore[misc]
    median = statistics.median(passes)
    return {
        "regions_per_s": round(batch / median, 3),
        "seconds_a_pass": round(median, 4),
        "passes": len(passes),
        "passes_wanted": len(wanted),
        "tokens": plan.tokens,
        "peak_memory_gb": round(_peak_bytes(device) / 1e9, 2),
    }


def _seconds(call: Callable[[], list[list[int]]], tokens: int, device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    captions = call()
    synchronize(device)
    taken = time.perf_counter() - started
    lengths = {len(caption) for caption in captions}
    if lengths != {tokens}:
        raise AssertionError(f"captions of {sorted(lengths)} tokens, not of {tokens}")
    return taken


def _peak_bytes(device: torch.device) -> int:
    """Of this process since its start on a CPU, so batches are measured in ascending order; of the row on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def encode_plan(plan: ModelPlan) -> str:
    """The argument of this module's command."""
    return json.dumps(asdict(plan))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    for row in measure(ModelPlan(**{**given, "batches": tuple(given["batches"])})):
        print(json.dumps(row), flush=True)

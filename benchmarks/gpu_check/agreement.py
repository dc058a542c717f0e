"""Whether the fast ways say what the plain way says: transformers' own layers and `generate`, nothing shared.

On a small random model and on the embedded one, in float32 and in bfloat16: whole batches, captions in slots, the same
without graphs, with transformers' own norms, and regions that join a continuous batch one after the other. On a CPU the
slots and the one-kernel norms, which only a GPU takes by itself, are tried as well.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure
from benchmarks.offline import SCENE, random_boxes
from dynrefer.model.batch import RawOutputs
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model, open_slots
from dynrefer.model.networks.generation.slots import DecodingSlots
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.model.networks.kernels.rms_norm import use_fused_norms
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import PreparedRegion
from dynrefer.model.types import RegionQuery, Task
from dynrefer.workbench.profiling.workload import Workload, random_config, random_model
from tests.model.reference_batch import reference_batch

SMALL = Workload(tags=64, prompts=24, attributes=6, categories=8, tokens=12)
REGIONS = 24
SLOTS_ON_CPU = 16
SCORES = {"float32": 1e-3, "bfloat16": 0.2}  # how far a number may lie from the plain way's
# Of bfloat16's captions so many must be equal where weights are trained; random ones make near ties. Not all: the plain
# way chooses among tokens whose logits 8 bits do not tell apart, ours computes those again in float32.
EQUAL = 0.8
Run = Callable[[], list[RawOutputs]]


@dataclass(frozen=True)
class Agreement:
    """captions: the share with the same token ids. scores: the largest difference, of equal captions' scores and of
    all other numbers over their own largest."""

    captions: float
    scores: float


def compared(found: Sequence[RawOutputs], expected: Sequence[RawOutputs]) -> Agreement:
    """Outputs of the same regions by two ways."""
    same, furthest = [], [0.0]
    for ours, theirs in zip(found, expected, strict=True):
        caption, reference = ours[Task.CAPTION], theirs[Task.CAPTION]
        # Behind the end token stand as many paddings as the batch's longest caption needs.
        ends = caption.length + 1, reference.length + 1
        same.append(caption.tokens[: ends[0]] == reference.tokens[: ends[1]])
        if same[-1]:
            furthest.append(abs(caption.score - reference.score))
        for task in (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES):
            scale = max(1.0, float(np.abs(theirs[task]).max()))
            furthest.append(float(np.abs(np.asarray(ours[task]) - theirs[task]).max()) / scale)
    largest = max(math.inf if math.isnan(each) else each for each in furthest)
    return Agreement(sum(same) / len(same), largest)


def measure(given: Conditions) -> Iterator[Figure]:
    """All of it."""
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    for dtype in ("float32", "bfloat16"):
        for model, make in (("random", _random), ("embedded", _embedded)):
            plain, loaded = make(given, dtype, True), make(given, dtype, False)
            regions = _regions(loaded)
            expected = reference_batch(plain, [each for region in regions for each in region.inputs])
            if given.is_gpu:
                yield _graphs(model, dtype, loaded)
            for way, run in _ways(given, loaded, make, dtype, regions):
                yield _figure(f"{model}, {dtype}: {way}", dtype, model, compared(run(), expected))


def _figure(name: str, dtype: str, model: str, found: Agreement) -> Figure:
    least = 1.0 if dtype == "float32" else EQUAL if model == "embedded" else 0.0
    ok = found.captions >= least and found.scores <= SCORES[dtype]
    detail = {"captions_equal": round(found.captions, 4), "largest_difference": found.scores}
    text = f"{found.captions:.0%} of captions equal, numbers within {found.scores:.1e}"
    return Figure("agreement", name, text, ok=ok, detail=detail)


def _random(given: Conditions, dtype: str, plain: bool) -> LoadedModel:
    config = random_config("embedded", SMALL)
    return random_model(config, SMALL, given.on, getattr(torch, dtype), plain=plain)


def _embedded(given: Conditions, dtype: str, plain: bool) -> LoadedModel:
    if not plain:
        return load_model("embedded", device=given.device, dtype=dtype)
    with patch("dynrefer.model.loading.choose_kernels", lambda *_, **__: None):
        return replace(load_model("embedded", device=given.device, dtype=dtype, cuda_graphs=False), slots=None)


def _regions(loaded: LoadedModel) -> list[PreparedRegion]:
    pixels = upright_pixels(SCENE)
    height, width = pixels.shape[:2]
    boxes = [(a * width, b * height, c * width, d * height) for a, b, c, d in random_boxes(REGIONS, random.Random(5))]
    queries = [RegionQuery(box, controls=("w1", "w2")[: number % 3]) for number, box in enumerate(boxes)]
    return DynRefer(loaded).prepare(pixels, queries)


def _ways(
    given: Conditions,
    loaded: LoadedModel,
    make: Callable[[Conditions, str, bool], LoadedModel],
    dtype: str,
    regions: list[PreparedRegion],
) -> Iterator[tuple[str, Run]]:
    yield "whole batch", lambda: _whole(loaded, regions)
    yield "one after the other in a continuous batch", lambda: _continuous(loaded, regions)
    eager = replace(loaded, slots=_eager_slots(loaded))
    yield "in slots, without graphs", lambda: _whole(eager, regions)
    if given.is_gpu:
        with patch("dynrefer.model.networks.kernels.choice.use_fused_norms", lambda network: None):
            own = make(given, dtype, False)
        yield "with transformers' own norms", lambda: _whole(own, regions)
    else:
        fused = make(given, dtype, False)
        use_fused_norms(fused.network)
        yield "with norms in one kernel", lambda: _whole(fused, regions)


def _eager_slots(loaded: LoadedModel) -> DecodingSlots | None:
    if loaded.device.type == "cpu":
        return loaded.network.language.open_slots(SLOTS_ON_CPU, NoGraphs())
    return open_slots(loaded.network, loaded.device, NoGraphs())


def _whole(loaded: LoadedModel, regions: list[PreparedRegion]) -> list[RawOutputs]:
    return [each for output in DynRefer(loaded).run(regions) for each in output.outputs]


def _continuous(loaded: LoadedModel, regions: list[PreparedRegion]) -> list[RawOutputs]:
    batch = DynRefer(loaded, batching="continuous").continuous()
    if batch is None:
        raise SystemExit("there is no continuous batch on this device.")
    waiting, places = list(enumerate(regions)), dict[int, int]()
    found: dict[int, list[RawOutputs]] = {}
    while waiting or places:
        if waiting and batch.room.regions:
            place, region = waiting.pop(0)
            places[batch.admit([region])[0]] = place
        for ticket, output in batch.advance():
            found[places.pop(ticket)] = list(output.outputs)
    return [each for place in sorted(found) for each in found[place]]


def _graphs(model: str, dtype: str, loaded: LoadedModel) -> Figure:
    DynRefer(loaded).run(_regions(loaded)[:1])
    counts = dict(loaded.graphs.counts)
    captured, fallen = counts["captured"], counts["fallen_back"]
    text = f"{captured} captured, {fallen} fallen back"
    return Figure("agreement", f"{model}, {dtype}: CUDA graphs", text, ok=captured > 0 and not fallen, detail=counts)

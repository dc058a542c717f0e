"""Operations and bytes of every stage of a batch, and the roofline bound on its time on a given machine.

Operations are those of matrix products and convolutions, two per multiply-add, counted by torch while the network's own
code runs on meta tensors. Bytes are the least that must move: weights once per use, inputs and outputs once; for
captions the weights once per token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynrefer.model.networks.dynrefer.config import PRESETS
from dynrefer.model.networks.dynrefer.decoders import RecognitionDecoder
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.generation.llama_stepper import LlamaSteps
from dynrefer.workbench.profiling.machine import copy_gb_s, gemm_gflops, heading, provenance
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

Found = TypeVar("Found")
PARTS = ("encode", "represent", "qformer", "tags", "attributes", "categories", "caption")
META = torch.device("meta")
MOST_CONTROL_TOKENS = 32  # to which the released model with Flan-T5 cuts


@dataclass(frozen=True)
class Cost:
    """operations: floating-point operations. bytes: read and written."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Ceilings:
    """Measured peaks of the machine: matrix products in the model's dtype and in float32, FLOP/s; copying, bytes/s."""

    product: float
    product_float32: float
    copy: float


def roofline_seconds(part: str, cost: Cost, ceilings: Ceilings) -> float:
    """The roofline bound of a part, seconds: its operations at the peak rate or its bytes at the peak bandwidth,
    whichever takes longer."""
    rate = ceilings.product_float32 if part == "qformer" else ceilings.product
    return max(cost.operations / rate, cost.bytes / ceilings.copy)


@torch.inference_mode()
def count_costs(name: str, work: Workload, regions: int, dtype: torch.dtype) -> dict[str, Cost]:
    """Costs by part, of a batch of regions that share no view. The Q-Former, always float32, is a part of its own."""
    network = random_network(random_config(name, work), META, dtype)
    config = network.config
    size, views, item = config.view_size, config.num_views, dtype.itemsize
    images = torch.empty(regions * views, 3, size, size, dtype=torch.uint8, device=META)
    boxes = torch.empty(regions, views, 4, device=META)
    encoded, features = _counted(lambda: network.encode(images))
    all_of_region, region = _counted(lambda: network.represent(features, boxes))
    tokens = features.map.shape[-1] ** 2 if features.cls is None else config.roi_size**2 + 1
    fused = torch.empty(regions, tokens, features.map.shape[1], dtype=dtype, device=META)
    compressed, _ = _counted(lambda: network.compress(fused))
    costs = {
        "encode": Cost(encoded, _weights(network.vision) + images.nbytes + features.nbytes),
        "represent": Cost(
            all_of_region - compressed,
            _weights(network.align) + _weights(network.fusion) + features.nbytes + fused.nbytes,
        ),
        "qformer": Cost(compressed, _weights(network.qformer) + fused.nbytes + region.nbytes),
    }
    for part, decoder, texts in (
        ("tags", network.tag_decoder, work.tags),
        ("attributes", network.region_text_decoder, work.prompts),
        ("categories", network.region_text_decoder, work.categories),
    ):
        costs[part] = _texts(decoder, region, texts, item)
    costs["caption"] = _caption(network, region, work)
    return costs


def _texts(decoder: RecognitionDecoder, region: Tensor, count: int, item: int) -> Cost:
    width = decoder.text_projection.in_features
    prepared = decoder.prepare(torch.empty(count, width, dtype=decoder.logit.weight.dtype, device=META))
    operations, _ = _counted(lambda: decoder.score(region, prepared))
    weights = _weights(decoder) - _weights(decoder.text_projection)
    return Cost(operations, weights + prepared.texts.nbytes + prepared.queries.nbytes + len(region) * count * item)


def _caption(network: DynReferModel, region: Tensor, work: Workload) -> Cost:
    language = network.language
    ids = torch.empty(len(region), control_tokens(network), dtype=torch.int64, device=META)
    path = torch.zeros(len(region), work.beams, work.tokens, dtype=torch.int64, device=META)

    def decode() -> Any:
        embeddings, mask = language.prompt(region, ids, torch.ones_like(ids))
        steps = language.steps(embeddings, mask, work.beams, work.tokens)
        for step in range(work.tokens):
            steps.step(path[:, :, step], path[:, :, : step + 1])
        return steps

    operations, steps = _counted(decode)
    model, causal = language.model, isinstance(steps, LlamaSteps)
    blocks = model.model.layers if causal else model.decoder.block
    per_token = sum(_weights(block) for block in blocks) + model.lm_head.weight.nbytes
    prompt = sum(_weights(block) for block in blocks) if causal else _weights(model.encoder)
    logits = len(region) * work.beams * language.model.lm_head.out_features * language.model.lm_head.weight.itemsize
    caches = steps.cross_bytes + steps.own_bytes / 2  # a token reads half of the self-attention cache on average
    return Cost(operations, prompt + work.tokens * (per_token + caches + 2 * logits))


def control_tokens(network: DynReferModel) -> int:
    """As many as a region's control words take at most, where the model does not allow for more than any has."""
    return min(network.config.max_control_tokens, MOST_CONTROL_TOKENS)


def _weights(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def _counted(call: Callable[[], Found]) -> tuple[float, Found]:
    with FlopCounterMode(display=False) as counter:
        found = call()
    return float(counter.get_total_flops()), found


def count_presets(regions: int, tokens: int, beams: int) -> tuple[dict[str, Any], str]:
    """Costs of all presets in float32, with roofline bounds from rates measured now: the report and its table."""
    work = Workload(tokens=tokens, beams=beams)
    gemm, copy = gemm_gflops(), copy_gb_s()
    ceilings = Ceilings(gemm * 1e9, gemm * 1e9, copy * 1e9)
    report: dict[str, Any] = {
        **provenance(),
        "gemm_gflops": {"float32": round(gemm, 1)},
        "copy_gb_s": round(copy, 1),
        "regions": regions,
        "tokens": tokens,
        "beams": beams,
        "presets": {},
    }
    lines = [
        heading(report),
        "",
        "| preset | stage | GFLOP | MB | roofline ms | bound by |",
        "|---|---|---|---|---|---|",
    ]
    for name in PRESETS:
        stages = {}
        for part, cost in count_costs(name, work, regions, torch.float32).items():
            least = roofline_seconds(part, cost, ceilings)
            bound = "products" if cost.operations / ceilings.product >= cost.bytes / ceilings.copy else "bytes"
            stages[part] = {
                "gflop": round(cost.operations / 1e9, 3),
                "mb": round(cost.bytes / 1e6, 1),
                "floor_ms": round(least * 1e3, 2),
                "bound": bound,
            }
            counted = f"{cost.operations / 1e9:.2f} | {cost.bytes / 1e6:.1f}"
            lines.append(f"| {name} | {part} | {counted} | {least * 1e3:.2f} | {bound} |")
        report["presets"][name] = stages
    return report, "\n".join(lines)

"""Operations and bytes of every part of a batch, and the least time that they take on a given machine.

Operations are those of matrix products and convolutions, two per multiplication and addition, counted by torch while
the network's own code runs on tensors without data. Bytes are the least that must move: weights once per use, what
comes in and what goes out once; caption weights once per token.

Letters: R regions, V views, S view side, T texts, Q queries, W control tokens, L caption tokens, B beams.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynrefer.model.networks.dynrefer.decoders import RecognitionDecoder
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.generation.t5_stepper import T5Steps
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

Found = TypeVar("Found")
PARTS = ("encode", "represent", "qformer", "tags", "attributes", "categories", "caption")
META = torch.device("meta")


@dataclass(frozen=True)
class Cost:
    """operations: floating-point. bytes: read and written."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do: products in FLOP/s in the model's dtype and in float32, copying in bytes/s."""

    product: float
    product_float32: float
    copy: float


def floor_seconds(part: str, cost: Cost, ceilings: Ceilings) -> float:
    """The least time of a part: its products at the measured rate, or its bytes at the measured bandwidth."""
    rate = ceilings.product_float32 if part == "qformer" else ceilings.product
    return max(cost.operations / rate, cost.bytes / ceilings.copy)


@torch.inference_mode()
def count_costs(name: str, work: Workload, regions: int, dtype: torch.dtype) -> dict[str, Cost]:
    """Of a batch of R regions that share no view, by part; the Q-Former, always float32, stands by itself."""
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
    ids = torch.empty(len(region), network.config.max_control_tokens, dtype=torch.int64, device=META)
    path = torch.zeros(len(region), work.beams, work.tokens, dtype=torch.int64, device=META)

    def decode() -> T5Steps:
        embeddings, mask = language.prompt(region, ids, torch.ones_like(ids))
        steps = T5Steps(language.model, embeddings, mask, work.beams, work.tokens)
        for step in range(work.tokens):
            steps.step(path[:, :, step], path[:, :, : step + 1])
        return steps

    operations, steps = _counted(decode)
    decoder = language.model.decoder
    per_token = sum(_weights(block) for block in decoder.block) + language.model.lm_head.weight.nbytes
    logits = len(region) * work.beams * language.model.lm_head.out_features * language.model.lm_head.weight.itemsize
    caches = steps.cross_bytes + steps.own_bytes / 2  # of its own past a token reads half on average
    return Cost(operations, _weights(language.model.encoder) + work.tokens * (per_token + caches + 2 * logits))


def _weights(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def _counted(call: Callable[[], Found]) -> tuple[float, Found]:
    with FlopCounterMode(display=False) as counter:
        found = call()
    return float(counter.get_total_flops()), found

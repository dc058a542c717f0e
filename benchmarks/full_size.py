"""`python -m benchmarks.full_size`: a network of the official sizes with random bfloat16 weights, on this machine.

One request: one region, three views, all four outputs. Writes results/full_size.json (seconds by stage, peak memory)
and prints it. Needs about 12 GB of free memory; the text embeddings are random, like the weights. Processor time is
reported beside wall-clock time, which says little on a shared machine.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from dynrefer.model.networks.dynrefer.config import DynReferConfig, preset
from dynrefer.model.networks.dynrefer.decoders import synonym_maximum
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.profiling.machine import provenance

RESULT = Path(__file__).parent / "results" / "full_size.json"
TAGS, PROMPTS, ATTRIBUTES, CATEGORIES = 4585, 474, 117, 80  # the official vocabularies
FREE_BYTES = 12e9  # 8.2 GB of weights, and what building them and a request need
Result = TypeVar("Result")
Stages = dict[str, tuple[float, float]]  # stage -> wall-clock seconds, processor seconds


def build(config: DynReferConfig) -> DynReferModel:
    """Random weights, created in bfloat16: converting a float32 model would need twice the memory."""
    torch.manual_seed(0)
    network: DynReferModel = DynReferModel._from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    network.qformer.float()  # as the released model has it, and as loading leaves it
    network.query_tokens.data = network.query_tokens.data.float()
    network.train(False)
    network.requires_grad_(False)
    return network


def request(network: DynReferModel, stages: Stages) -> dict[str, int]:
    """Describe one region; returns the sizes of the outputs. stages: receives the times."""
    config = network.config
    generator = torch.Generator().manual_seed(1)
    size, views = config.view_size, config.num_views
    images = torch.randint(0, 256, (views, 3, size, size), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([0.0, 0.0, size, size]).expand(1, views, 4)
    width = network.tag_decoder.text_projection.in_features
    tags, prompts, categories = (torch.randn(n, width, generator=generator) for n in (TAGS, PROMPTS, CATEGORIES))
    owner = torch.arange(PROMPTS) % ATTRIBUTES
    words = torch.randint(3, 32_000, (1, config.max_control_tokens), generator=generator)

    def timed(name: str, stage: Callable[[], Result]) -> Result:
        started, worked = time.perf_counter(), time.process_time()
        found = stage()
        stages[name] = (time.perf_counter() - started, time.process_time() - worked)
        return found

    features = timed("vision", lambda: network.encode(images))
    region = timed("region", lambda: network.represent(features, boxes))
    tag_logits = timed("tags", lambda: network.tag_decoder(region, tags))
    synonyms = timed("attributes", lambda: network.region_text_decoder(region, prompts))
    category_logits = timed("categories", lambda: network.region_text_decoder(region, categories))
    caption = timed("caption", lambda: network.language.generate(region, words, torch.ones_like(words)))
    attribute_logits = synonym_maximum(synonyms, owner, ATTRIBUTES)
    for logits in (tag_logits, attribute_logits, category_logits):
        assert logits.isfinite().all()
    return {
        "tags": tag_logits.shape[1],
        "attributes": attribute_logits.shape[1],
        "categories": category_logits.shape[1],
        "caption_tokens": int(caption.length[0]),
    }


def measure() -> dict[str, Any]:
    """Build the network, run two requests (the second one warm), and report."""
    config = preset("flan-t5-xl")
    started = time.process_time()
    network = build(config)
    built = time.process_time() - started
    first, second = Stages(), Stages()
    with torch.inference_mode():
        request(network, first)
        outputs = request(network, second)
    parameters = list(network.parameters())
    return {
        **provenance(),
        "model": "flan-t5-xl preset, random weights: bfloat16, Q-Former float32",
        "parameters": sum(parameter.numel() for parameter in parameters),
        "weights_gb": round(sum(parameter.nbytes for parameter in parameters) / 1e9, 2),
        "peak_memory_gb": round(peak_memory() / 1e9, 2),
        "build_processor_s": round(built, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "request": {"regions": 1, "views": config.num_views, **outputs, "beams": config.generation["num_beams"]},
        "first_request": rounded(first),
        "second_request": rounded(second),
    }


def rounded(stages: Stages) -> dict[str, dict[str, float]]:
    """Stages and their sum, JSON-ready."""
    whole = {**stages, "total": (sum(s for s, _ in stages.values()), sum(p for _, p in stages.values()))}
    return {name: {"s": round(passed, 2), "processor_s": round(own, 2)} for name, (passed, own) in whole.items()}


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def free_memory() -> float:
    """Bytes available without swapping; infinite if the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return float("inf")
    fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return float(fields["MemAvailable"].split()[0]) * 1024


def main() -> None:
    """The command."""
    if free_memory() < FREE_BYTES:
        raise SystemExit(f"full_size: {free_memory() / 1e9:.0f} GB are free, {FREE_BYTES / 1e9:.0f} are needed.")
    report = json.dumps(measure(), indent=1)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    main()

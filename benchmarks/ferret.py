"""`python -m benchmarks.ferret`: what a Ferret-v2 of the paper's sizes takes, and what any resolution costs.

Parameters, bytes and operations of `ferret-v2-7b` are counted on torch's meta device, which computes nothing; seconds
are those of the `tiny` preset, on this machine's CPU with one thread. Writes results/ferret.json and prints it.
Operations are two per multiply-add, of matrix products and convolutions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dynrefer.model.conversation import Conversation, Message, NamedRegion, Role
from dynrefer.model.networks.converse.ferret.config import FerretConfig, preset
from dynrefer.model.networks.converse.ferret.converser import FerretConverser
from dynrefer.model.networks.converse.ferret.key_values import KeyValues
from dynrefer.model.networks.converse.ferret.network import FerretModel
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.profiling.machine import median_seconds, provenance
from dynrefer.workbench.random_ferret import byte_tokenizer, random_ferret

RESULT = Path(__file__).parent / "results" / "ferret.json"
META = torch.device("meta")
WORDS = 64  # tokens of a question beside the image
# Name -> (width, height) of an image; the first is seen as a whole alone.
IMAGES = {
    "low resolution": (640, 480),
    "one tile": (300, 300),
    "640 x 480": (640, 480),
    "1000 x 700": (1000, 700),
    "2016 x 336": (2016, 336),
}
QUESTION = "What is <region:a> standing on?"


def counted(config: FerretConfig, size: tuple[int, int]) -> dict[str, Any]:
    """Tokens, operations and bytes of an image of (width, height)."""
    model: FerretModel = random_ferret(config, META, torch.bfloat16)
    spec, language = config.spec, config.language_config
    grid = spec.grid(size)
    views = torch.empty(1 + (grid.tiles if grid else 0), 3, spec.side, spec.side, dtype=torch.uint8, device=META)
    with torch.inference_mode():
        image, features = _operations(lambda: model.image_features(views, size))
        query = RegionQuery(box=(0, 0, *size))
        region, _ = _operations(lambda: model.region_feature(features, query, size))
        tokens = len(features.tokens) + WORDS
        values = KeyValues(language.num_hidden_layers, tokens)
        prompt, _ = _operations(lambda: _fed(model, values, tokens))
        token, _ = _operations(lambda: _fed(model, values, 1))
    return {
        "grid": f"{grid.columns}x{grid.rows}" if grid else "none",
        "image_tokens": len(features.tokens),
        "image_tera_operations": round(image / 1e12, 3),
        "region_giga_operations": round(region / 1e9, 3),
        "prompt_tera_operations": round(prompt / 1e12, 2),
        "token_giga_operations": round(token / 1e9, 2),
        "features_mb": round(features.nbytes / 1e6, 1),
        "keys_and_values_mb": round(tokens * key_value_bytes(config) / 1e6),
    }


def key_value_bytes(config: FerretConfig) -> int:
    """Of one token, in bfloat16."""
    language = config.language_config
    head = language.head_dim or language.hidden_size // language.num_attention_heads
    return int(2 * language.num_hidden_layers * language.num_key_value_heads * head * torch.bfloat16.itemsize)


def parameters(config: FerretConfig) -> dict[str, float]:
    """Millions by part."""
    model: Any = random_ferret(config, META, torch.bfloat16)
    parts: dict[str, nn.Module] = {
        "CLIP": model.whole.tower,
        "DINOv2": model.tiles.tower,
        "projectors": nn.ModuleList([model.whole.project, model.tiles.project]),
        "sampler": model.sampler,
        "language model": model.language,
        "all": model,
    }
    return {name: round(sum(each.numel() for each in part.parameters()) / 1e6, 1) for name, part in parts.items()}


def tiny_seconds() -> dict[str, float]:
    """Milliseconds of the smallest preset: an image's first piece, a later token, a second turn's first piece."""
    torch.set_num_threads(1)
    speaker = FerretConverser(random_ferret(preset("tiny")), byte_tokenizer())
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    region = NamedRegion("a", RegionQuery(box=(50, 60, 300, 400)))
    first = Conversation((Message(Role.USER, QUESTION),), (region,))
    again = (*first.messages, Message(Role.ASSISTANT, "A mat."), Message(Role.USER, "And what is beside it?"))
    turn, second = speaker.spec.prepare_each(picture, [first, replace(first, messages=again)])

    def fresh() -> None:
        speaker.forget()
        speaker.converse([replace(turn, piece=1)], lambda: False)

    def pieces(asked: Any, tokens: int) -> float:
        fresh()
        started = time.perf_counter()
        speaker.converse([replace(asked, piece=tokens)], lambda: False)
        return time.perf_counter() - started

    found = {
        "first token": median_seconds(fresh),
        "first token of a second turn": float(np.median([pieces(second, 1) for _ in range(5)])),
    }
    longer, one = (float(np.median([pieces(turn, tokens) for _ in range(5)])) for tokens in (9, 1))
    found["a later token"] = (longer - one) / 8
    return {name: round(1e3 * seconds, 2) for name, seconds in found.items()}


def measure() -> dict[str, Any]:
    """The report."""
    config = preset("ferret-v2-7b")
    low = preset("ferret-v2-7b", grids=[])
    millions = parameters(config)
    return {
        **provenance(),
        "parameters_millions": millions,
        "weights_gb_bfloat16": round(millions["all"] * 1e6 * torch.bfloat16.itemsize / 1e9, 2),
        "key_value_kb_per_token": round(key_value_bytes(config) / 1e3, 1),
        "images": {name: counted(low if name == "low resolution" else config, size) for name, size in IMAGES.items()},
        "tiny_cpu_milliseconds": tiny_seconds(),
    }


def _operations(work: Callable[[], Any]) -> tuple[float, Any]:
    with FlopCounterMode(display=False) as counter:
        found = work()
    return float(counter.get_total_flops()), found


def _fed(model: FerretModel, values: KeyValues, tokens: int) -> None:
    """So many tokens behind those that are there."""
    places = torch.arange(values.length, values.length + tokens, device=META)[None]
    embeddings = torch.empty(1, tokens, model.config.language_config.hidden_size, dtype=torch.bfloat16, device=META)
    model(embeddings, position_ids=places, past_key_values=values, use_cache=True, logits_to_keep=1)


def main() -> None:
    """The command."""
    report = json.dumps(measure(), indent=1)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    main()

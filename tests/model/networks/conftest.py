"""A network of a few thousand parameters, of each kind of vision tower."""

from typing import Any

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.config import DynReferConfig, preset
from dynrefer.model.networks.dynrefer.model import DynReferModel

torch.set_num_threads(1)

TEXT = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL: dict[str, Any] = {
    "view_size": 56,
    "roi_size": 4,
    "num_queries": 4,
    "decoder_width": 32,
    "decoder_intermediate": 64,
    "text_config": {
        **TEXT,
        "max_position_embeddings": 16,
        "projection_dim": 24,
        "bos_token_id": 62,
        "eos_token_id": 63,
    },
    "language_config": {
        **{"model_type": "t5", "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4},
        **{"num_layers": 2, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu"},
        "scale_decoder_outputs": False,
    },
}
# Of a causal language model, in place of T5.
LLAMA: dict[str, Any] = {
    **{"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 128},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
QFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
VIT = {"model_type": "blip_2_vision_model", "image_size": 56, "hidden_size": 48, "intermediate_size": 96}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": {**VIT, "num_hidden_layers": 2, "num_attention_heads": 4},
    "convolutional": {
        **{"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 48], "depths": [1, 1]},
        "layer_type": "basic",
    },
}


def small_config(tower: str = "vit", **changes: Any) -> DynReferConfig:
    """The flan-t5-xl preset, scaled down."""
    parts = {"vision_config": TOWERS[tower], "qformer_config": {**QFORMER, "encoder_hidden_size": 48}}
    return preset("flan-t5-xl", **{**SMALL, **parts, **changes})


def perturbed(network: DynReferModel, scale: float = 0.1) -> DynReferModel:
    """Noise on every weight, so that nothing that starts at zero hides a mistake."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


@pytest.fixture(params=list(TOWERS))
def network(request: pytest.FixtureRequest) -> DynReferModel:
    """A network with random weights, once per kind of vision tower."""
    return perturbed(DynReferModel(small_config(request.param)))


def some_regions(config: DynReferConfig, count: int) -> tuple[Tensor, Tensor]:
    """Images (R, V, 3, S, S) uint8 and boxes (R, V, 4) float32."""
    generator = torch.Generator().manual_seed(0)
    size, views = config.view_size, config.num_views
    images = torch.randint(0, 256, (count, views, 3, size, size), dtype=torch.uint8, generator=generator)
    corner = torch.rand(count, views, 2, generator=generator) * size * 0.5
    extent = (0.1 + 0.4 * torch.rand(count, views, 2, generator=generator)) * size
    return images, torch.cat((corner, corner + extent), dim=-1).floor()

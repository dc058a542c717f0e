"""Random weights for training: of the parts that BLIP-2 does not have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.networks.dynrefer.config import DynReferConfig

_SEED = 0


def random_weights(config: DynReferConfig) -> dict[str, Tensor]:
    """Our name -> float32 tensor of alignment, fusion, both recognition decoders, control vector, temperature and bias.

    Xavier with zero bias; offsets and control vector zero, temperature log 10, bias -10. The same every time.
    """
    import torch

    from dynrefer.model.networks.dynrefer.model import DynReferModel

    with torch.device("meta"):
        network = DynReferModel(config)
    found: dict[str, Tensor] = {
        "language.control_memory": torch.zeros(network.language.control_memory.shape),
        "region_text_temperature": torch.tensor(math.log(10.0)),
        "region_text_bias": torch.tensor(-10.0),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        for name in ("align", "fusion", "tag_decoder", "region_text_decoder"):
            part = network.get_submodule(name).to_empty(device="cpu")
            part.apply(network._init_weights)
            found |= {f"{name}.{inner}": value for inner, value in part.state_dict().items()}
    for end in ("weight", "bias"):
        torch.nn.init.zeros_(found[f"align.offset_mask.{end}"])
    return found

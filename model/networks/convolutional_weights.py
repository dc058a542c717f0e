"""The weights of our own convolutional networks, finder and segmenter: read strictly, normalisations folded in."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dynrefer.model.errors import WeightsError
from dynrefer.model.model_files import read_arrays

Network = TypeVar("Network", bound=nn.Module)

# The attributes of a block that hold a convolution, and the normalisation behind it.
_PAIRS = (("first", "first_norm"), ("second", "second_norm"), ("change", "norm"))


def shipped_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Those of a network that are in its file: of real numbers, which leaves out what normalisations count."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def load_weights(network: Network, path: Path, what: str) -> Network:
    """Read a file into the network, to be used and not trained. what: the network, as in "finder".

    Raises `WeightsError` for a tensor that is missing or has another shape, and `ModelNotFoundError`.
    """
    own = shipped_tensors(network)
    arrays = read_arrays(path, own, f"weights of the {what}")
    for name, value in own.items():
        if arrays[name].shape != tuple(value.shape):
            raise WeightsError(
                f"{name!r} of {str(path)!r} has the shape {list(arrays[name].shape)}, but the {what} needs "
                f"{list(value.shape)}."
            )
    network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()}, strict=False)
    return network.eval().requires_grad_(False)


def folded(network: Network) -> Network:
    """The network with every normalisation folded into the convolution before it; the same numbers but for rounding."""
    for module in list(network.modules()):
        for convolution, norm in _PAIRS:
            change, after = getattr(module, convolution, None), getattr(module, norm, None)
            if isinstance(change, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(change, after))
                setattr(module, norm, nn.Identity())
    return network

"""Linear layers by oneDNN, for answers on a CPU: torch has it built in, but takes it by itself for short weights only.

As measured it is faster than the library that torch takes in float32, most of all where rows are few; it applies GELU
before a product leaves the cache; and in float32, from two rows on, a row's numbers do not depend on the other rows.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation
from transformers.models.blip_2.modeling_blip_2 import Blip2MLP

# What torch's own compiler calls; it is not part of the documented interface, so do without where it is not.
AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# Where the processor cannot, oneDNN refuses bfloat16, and torch has a way of its own.
_SHORT = (torch.bfloat16,) if AVAILABLE and torch.ops.mkldnn._is_mkldnn_bf16_supported() else ()
_DTYPES = (torch.float32, *_SHORT)
# As measured: the embedded model's layers (5 million parameters) cost more to hand over than they gain, some 3 % of the
# time of a batch.
_LEAST_PARAMETERS = 50_000_000


def linear(rows: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """`layer` of rows (..., C_in) -> (..., C_out), then GELU (the exact one) if asked for. By oneDNN if the layer is an
    `OneDnnLinear`, on a CPU and without gradients; else as torch itself does it."""
    if not by_onednn(rows, layer):
        found = F.linear(rows, layer.weight, layer.bias)
        if not gelu:
            return found
        return F.gelu(found) if torch.is_grad_enabled() else torch.ops.aten.gelu_(found)
    name, algorithm = ("gelu", "none") if gelu else ("none", "")
    alone = rows.numel() == rows.shape[-1]
    given = torch.cat((rows, rows)) if alone else rows  # a single row would be rounded in another way
    fused: Tensor = torch.ops.mkldnn._linear_pointwise(given, layer.weight, layer.bias, name, [], algorithm)
    return fused[: len(rows)] if alone else fused


def by_onednn(rows: Tensor, layer: nn.Linear) -> bool:
    """Whether `linear` takes oneDNN for this layer, and for rows of such a kind."""
    return (
        AVAILABLE
        and isinstance(layer, OneDnnLinear)
        and rows.device.type == "cpu"
        and rows.dtype == layer.weight.dtype
        and rows.dtype in _DTYPES
        and rows.ndim > 1
        and rows.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class OneDnnLinear(nn.Linear):
    """A linear layer that computes by `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # nn.Linear's own name for it
        """(..., C_in) -> (..., C_out)."""
        return linear(input, self)


class OneDnnMLP(Blip2MLP):
    """The feed-forward part of the vision tower, its GELU fused into the first product."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(N, P, C) -> (N, P, C)."""
        return linear(linear(hidden_states, self.fc1, gelu=True), self.fc2)


def use_onednn(network: nn.Module, least_parameters: int = _LEAST_PARAMETERS) -> None:
    """Have every linear layer of a network that is not small compute by oneDNN; the weights stay where they are."""
    if not AVAILABLE or sum(each.numel() for each in network.parameters()) < least_parameters:
        return
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
        elif type(module) is Blip2MLP and isinstance(module.activation_fn, GELUActivation):
            module.__class__ = OneDnnMLP

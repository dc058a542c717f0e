"""Linear layers by oneDNN for inference on a CPU. torch has it built in, but by itself takes it for bfloat16 only.

As measured, it is faster in float32 than the library that torch takes, most of all where rows are few; it applies GELU
before a product leaves the cache; and from two rows on, a row's float32 numbers do not depend on the other rows.
"""

import platform
from collections.abc import Mapping
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import GELUActivation
from transformers.models.blip_2.modeling_blip_2 import Blip2MLP

from dynrefer.model.errors import DeviceError

CpuKernels = Literal["auto", "onednn", "torch"]

# Processors on which oneDNN is used where nothing else is requested, and the parameters that a network needs for it to
# pay off, as measured: the layers of a smaller one (the embedded model has 5 million) cost more to hand over than they
# gain, about 3 % of a batch's time. Keys: architecture, or architecture and instruction set as torch names it
# ("x86_64 AVX512"), which wins. A processor that is not listed has not been measured and keeps torch's own kernels.
LEAST_PARAMETERS: Mapping[str, int] = {"x86_64": 50_000_000}


def use_onednn(network: nn.Module, kernels: str = "auto") -> None:
    """Have every linear layer of a network compute by oneDNN where that is chosen; the weights stay where they are.

    kernels: "auto" decides by processor and size of the network, "onednn" always takes it, "torch" never.
    Raises `DeviceError` for another name, and for "onednn" where it is not available.
    """
    if kernels not in get_args(CpuKernels):
        raise DeviceError(f"cpu_kernels {kernels!r} is not one of {', '.join(get_args(CpuKernels))}.")
    if kernels == "torch" or (kernels == "auto" and not _pays_off(network)):
        return
    if not available():
        if kernels == "onednn" and next(network.parameters()).device.type == "cpu":
            raise DeviceError("cpu_kernels 'onednn' was requested, but oneDNN does not work here; use auto or torch.")
        return
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
        elif type(module) is Blip2MLP and isinstance(module.activation_fn, GELUActivation):
            module.__class__ = OneDnnMLP


def _pays_off(network: nn.Module) -> bool:
    architecture = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    detailed = f"{architecture} {torch.backends.cpu.get_cpu_capability()}"
    least = LEAST_PARAMETERS.get(detailed, LEAST_PARAMETERS.get(architecture))
    return least is not None and sum(each.numel() for each in network.parameters()) >= least


@cache
def available() -> bool:
    """Whether torch has oneDNN's product on this machine and it agrees with torch's own; tried once.

    The operator is the one that torch's compiler calls. It is not part of the documented interface, so a later version
    may lack it or change it.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    values = torch.linspace(-2.0, 2.0, 8 * 24)
    rows, weight, bias = values.view(8, 24), values.flip(0).view(8, 24), values[:8]
    expected = F.linear(rows, weight, bias)
    with torch.inference_mode():
        try:
            found, found_gelu = (_product(rows, weight, bias, gelu=gelu) for gelu in (False, True))
        except Exception:  # undocumented, it may raise anything: then it is not used
            return False
    return torch.allclose(found, expected, atol=1e-4) and torch.allclose(found_gelu, F.gelu(expected), atol=1e-4)


@cache
def _dtypes() -> tuple[torch.dtype, ...]:
    """Where the processor has no bfloat16, oneDNN refuses it, and torch has its own kernels for it."""
    short = hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if short else (torch.float32,)


def linear(rows: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """`layer` of rows (..., C_in) -> (..., C_out), then the exact GELU if requested.

    By oneDNN if the layer is an `OneDnnLinear`, on a CPU and without gradients; else by torch's own kernels.
    """
    if not by_onednn(rows, layer):
        found = F.linear(rows, layer.weight, layer.bias)
        if not gelu:
            return found
        return F.gelu(found) if torch.is_grad_enabled() else torch.ops.aten.gelu_(found)
    alone = rows.numel() == rows.shape[-1]
    given = torch.cat((rows, rows)) if alone else rows  # for batch invariance: a single row is rounded differently
    fused = _product(given, layer.weight, layer.bias, gelu=gelu)
    return fused[: len(rows)] if alone else fused


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None, *, gelu: bool) -> Tensor:
    name, algorithm = ("gelu", "none") if gelu else ("none", "")
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, name, [], algorithm)
    return found


def by_onednn(rows: Tensor, layer: nn.Linear) -> bool:
    """Whether `linear` takes oneDNN for this layer and such rows."""
    return (
        isinstance(layer, OneDnnLinear)
        and available()
        and rows.device.type == "cpu"
        and rows.dtype == layer.weight.dtype
        and rows.dtype in _dtypes()
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

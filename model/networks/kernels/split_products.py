"""Float32 products on a GPU's tensor cores, where the rows are numbers of bfloat16 and the weights are not.

The Q-Former computes in float32 whatever the rest is (section 3.2), and a GPU's units for float32 are slow: an H100 has
67 TFLOP/s, and 494 for TF32, which reads 11 significant bits of its operands. With TF32 alone the goldens' parity is
lost: rounding both operands of the Q-Former's linear layers on a CPU puts its output 4.5e-4 off, where 1e-5 is allowed,
and a tag changes sides. With every operand in two TF32 parts and three products it is kept (6.2e-7,
as in float32: 8.7e-7), with two bfloat16 parts it is not at full size (1.8e-5), with three parts and six products it is
(5.6e-7).

Keys and values of the cross-attention, more than half of the Q-Former's operations, need not have their rows split,
which come from the fusion in bfloat16: two products. All other layers compute three in one, over rows that lie side by
side with their parts, which a kernel of our own splits; where that cannot be had they stay in float32. A weight or row
in two parts of TF32 is off by 2^-23 of it at most. On an H200 the representation of 64
regions took 21.0 ms of the device's time with those layers in float32 and takes 15.7, that of eight 5.8 and 4.0.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerModel

from dynrefer.model.networks.kernels.nvrtc import Kernel, KernelError, library
from dynrefer.model.networks.kernels.streams import current_device

_KEPT = ~0x1FFF  # sign, exponent and ten bits of a float32's significand: what TF32 reads
_HALF = 0x1000
TOLERANCE = 1e-5  # relative Frobenius norm, as for parity with the official network


def use_split_products(network: nn.Module) -> bool:
    """Split the products of a Q-Former's linear layers, where a probe finds that exact; whether any is.

    For weights on a GPU, where the rest of the network is bfloat16; after the weights have moved to their device, and
    before anything is recorded. The layers' own weights stay as they are, beside two or three times their memory
    (1.2 GB for the released model).
    """
    former = [module for module in network.modules() if isinstance(module, Blip2QFormerModel)]
    if not former:
        return False
    with current_device(former[0].device):
        return _split_former(former)


def _split_former(former: Sequence[nn.Module]) -> bool:
    crossing = [
        linear
        for whole in former
        for module in whole.modules()
        if getattr(module, "has_cross_attention", False)
        for linear in (module.crossattention.attention.key, module.crossattention.attention.value)  # type: ignore[union-attr]
    ]
    found = _split([layer for layer in crossing if type(layer) is nn.Linear], SplitLinear)
    if not found or not rows_split_by_kernel(next(former[0].parameters()).device):
        return found
    others = [module for whole in former for module in whole.modules() if type(module) is nn.Linear]
    _split([layer for layer in others if layer.bias is not None], WhollySplitLinear)
    return True


def _split(layers: list[nn.Linear], kind: "type[SplitLinear] | type[WhollySplitLinear]") -> bool:
    """Have layers compute in parts; whether they do."""
    for layer in layers:
        layer.__class__ = kind
        layer.split()  # type: ignore[operator]
    if layers and all(is_exact(layer) for layer in layers):
        return True
    for layer in layers:
        layer.__class__ = nn.Linear
        for name in kind.PARTS:
            delattr(layer, name)
    return False


class SplitLinear(nn.Linear):
    """A linear layer in float32, of rows that bfloat16 can hold, with the weight in two parts of TF32.

    high, low: (C_out, C_in) each; their sum is the weight but for 2^-23 of it.
    """

    PARTS = ("high", "low")
    high: Tensor
    low: Tensor

    def split(self) -> None:
        """Make the parts from the weight."""
        with torch.no_grad():
            self.high = rounded(self.weight.detach())
            self.low = rounded(self.weight.detach() - self.high)

    def forward(self, input: Tensor) -> Tensor:  # nn.Linear's own name for it
        """(..., C_in) -> (..., C_out); the small part first, so that nothing of it is lost beside the large one."""
        rows = input.flatten(0, -2)
        with _tf32():
            found = torch.addmm(self.bias, rows, self.low.t()).addmm_(rows, self.high.t())
        split: Tensor = found.unflatten(0, input.shape[:-1])
        return split


class WhollySplitLinear(nn.Linear):
    """A linear layer in float32 of any rows: rows and weight each in two parts of TF32, three of their four products.

    parts: (C_out, 3 * C_in), what `side_by_side` is multiplied by: the weight's high, low and high part.
    """

    PARTS = ("parts",)
    parts: Tensor

    def split(self) -> None:
        """Make the parts from the weight."""
        with torch.no_grad():
            high = rounded(self.weight.detach())
            self.parts = torch.cat((high, rounded(self.weight.detach() - high), high), dim=1)

    def forward(self, input: Tensor) -> Tensor:  # nn.Linear's own name for it
        """(..., C_in) -> (..., C_out); the small parts first, so that nothing of them is lost beside the large one."""
        rows = side_by_side(input.flatten(0, -2))
        with _tf32():
            found = torch.addmm(self.bias, rows, self.parts.t())
        split: Tensor = found.unflatten(0, input.shape[:-1])
        return split


_SOURCE = """
__device__ __forceinline__ float rounded(float value) {
    return __int_as_float((__float_as_int(value) + 0x1000) & ~0x1fff);
}

extern "C" __global__ void side_by_side(const float4 *rows, float4 *parts, int count, int width)
{
    const int place = blockIdx.x * 256 + threadIdx.x;
    if (place >= count) return;
    const float4 given = rows[place];
    const float4 high = make_float4(rounded(given.x), rounded(given.y), rounded(given.z), rounded(given.w));
    float4 *to = parts + (place / width) * (3LL * width) + place % width;
    to[0] = make_float4(
        rounded(given.x - high.x), rounded(given.y - high.y), rounded(given.z - high.z), rounded(given.w - high.w));
    to[width] = high;
    to[2 * width] = high;
}
"""


@cache
def _kernel(device: int) -> Kernel | None:
    """For a GPU, by its number; None where it cannot be had."""
    try:
        return Kernel(_SOURCE, "side_by_side", {}, library())
    except KernelError:
        return None


def rows_split_by_kernel(device: torch.device) -> bool:
    """Whether the current device, a tensor's, has the kernel, and it splits as torch does."""
    if device.type != "cuda" or _kernel(device.index) is None:
        return False
    some = torch.linspace(-3.0, 3.0, 8 * 24, device=device).exp().view(8, 24)
    return torch.equal(side_by_side(some), _by_torch(some))


def side_by_side(rows: Tensor) -> Tensor:
    """(N, C) float32 -> (N, 3 * C): what TF32 loses of the rows, then twice what it keeps."""
    kernel = _kernel(rows.device.index) if rows.device.type == "cuda" else None
    if kernel is None or rows.shape[1] % 4 or not rows.is_contiguous():
        return _by_torch(rows)
    parts = torch.empty((len(rows), 3 * rows.shape[1]), dtype=torch.float32, device=rows.device)
    count = rows.numel() // 4
    kernel(-(-count // 256), 256, (rows, parts, count, rows.shape[1] // 4))
    return parts


def _by_torch(rows: Tensor) -> Tensor:
    high = rounded(rows)
    return torch.cat((rounded(rows - high), high, high), dim=1)


def rounded(values: Tensor) -> Tensor:
    """float32 to the nearest numbers of TF32, ties away from zero."""
    return values.contiguous().view(torch.int32).add(_HALF).bitwise_and_(_KEPT).view(torch.float32)


@torch.inference_mode()
def is_exact(layer: nn.Linear) -> bool:
    """Whether the layer's numbers are, within `TOLERANCE`, those in double precision: of the rows that it is for."""
    numbers = torch.randn((256, layer.in_features), generator=torch.Generator().manual_seed(0))
    rows = numbers.to(layer.weight.device, torch.bfloat16 if isinstance(layer, SplitLinear) else torch.float32)
    expected = torch.nn.functional.linear(rows.double(), layer.weight.double(), layer.bias.double())
    try:
        found = layer(rows.float()).double()
    except RuntimeError:  # an operator that this device or version of torch lacks
        return False
    return bool((found - expected).norm() <= TOLERANCE * expected.norm())


@contextmanager
def _tf32() -> Iterator[None]:
    """Products of float32 read their operands as TF32 inside; for the process, but one thread alone has the device."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before

"""Float32 products on a GPU's tensor cores, where the rows are numbers of bfloat16 and the weights are not.

The Q-Former computes in float32 whatever the rest is (section 3.2), and a GPU's units for float32 are slow: an H100 has
67 TFLOP/s, and 494 for TF32, which reads 11 significant bits of its operands. With TF32 alone the goldens' parity is
lost: rounding both operands of the Q-Former's linear layers on a CPU puts its output 4.5e-4 off, where 1e-5 is allowed,
and a tag changes sides. With every operand in two TF32 parts and three products it is kept (6.2e-7,
as in float32: 8.7e-7), with two bfloat16 parts it is not at full size (1.8e-5), with three parts and six products it is
(5.6e-7). Splitting rows, though, costs five small kernels a layer, and the weights' parts three times their memory.

So only those layers are split whose rows need it not: keys and values of the cross-attention, more than half of the
Q-Former's operations, whose rows come from the fusion in bfloat16. A weight in two parts of TF32 is off by 2^-23 of it
at most, and by the card's rates the two products take a quarter of the time of one in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_KEPT = ~0x1FFF  # sign, exponent and ten bits of a float32's significand: what TF32 reads
_HALF = 0x1000
TOLERANCE = 1e-5  # relative Frobenius norm, as for parity with the official network


def use_split_products(network: nn.Module) -> bool:
    """Split keys and values of a Q-Former's cross-attention, where a probe finds that exact; whether it is.

    For weights on a GPU, where the rest of the network is bfloat16; after the weights have moved to their device, and
    before anything is recorded. The layers' own weights stay as they are, beside twice their memory (104 MB for the
    released model).
    """
    layers = [
        linear
        for module in network.modules()
        if getattr(module, "has_cross_attention", False)
        for linear in (module.crossattention.attention.key, module.crossattention.attention.value)  # type: ignore[union-attr]
        if type(linear) is nn.Linear
    ]
    for layer in layers:
        layer.__class__ = SplitLinear
        layer.split()  # type: ignore[operator]
    if layers and all(is_exact(layer) for layer in layers):
        return True
    for layer in layers:
        layer.__class__ = nn.Linear
        del layer.high, layer.low
    return False


class SplitLinear(nn.Linear):
    """A linear layer in float32, of rows that bfloat16 can hold, with the weight in two parts of TF32.

    high, low: (C_out, C_in) each; their sum is the weight but for 2^-23 of it.
    """

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


def rounded(values: Tensor) -> Tensor:
    """float32 to the nearest numbers of TF32, ties away from zero."""
    return values.contiguous().view(torch.int32).add(_HALF).bitwise_and_(_KEPT).view(torch.float32)


@torch.inference_mode()
def is_exact(layer: nn.Linear) -> bool:
    """Whether the layer's numbers for bfloat16's rows are, within `TOLERANCE`, those in double precision."""
    numbers = torch.randn((256, layer.in_features), generator=torch.Generator().manual_seed(0))
    rows = numbers.to(layer.weight.device, torch.bfloat16)
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

"""T5's norms in one kernel, for GPUs: transformers' own launches six.

transformers normalises in float32, rounds to the weights' dtype, and only then multiplies by the weight. The kernel's
own multiplication would round once instead of twice; with bfloat16 weights that changes captions, so it is left out.
"""

import struct
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5LayerNorm

from dynrefer.model.networks.kernels.graphs import Work
from dynrefer.model.networks.kernels.nvrtc import Kernel, KernelError, library

# hidden (..., D), what is added to it (..., D), the norm -> their sum, and the sum normed.
AddNorm = Callable[[Tensor, Tensor, T5LayerNorm], tuple[Tensor, Tensor]]


def use_fused_norms(network: nn.Module) -> None:
    """Have every norm of a network's T5 compute by `FusedRmsNorm`; the weights stay where they are."""
    for module in network.modules():
        if type(module) is T5LayerNorm:
            module.__class__ = FusedRmsNorm


class FusedRmsNorm(T5LayerNorm):
    """x / sqrt(mean(x ** 2) + epsilon), rounded, times the weight.

    As `T5LayerNorm` to the last bit but for the order in which squares are added up.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        if hidden_states.dtype != self.weight.dtype:  # then transformers promotes types, which the kernel does not
            promoted: Tensor = super().forward(hidden_states)  # type: ignore[no-untyped-call]
            return promoted
        normed: Tensor = self.weight * F.rms_norm(hidden_states, self.weight.shape, None, self.variance_epsilon)
        return normed


def add_and_norm(hidden: Tensor, addition: Tensor, norm: T5LayerNorm) -> tuple[Tensor, Tensor]:
    """One after the other: an `AddNorm` for any device and dtype."""
    total = hidden + addition
    return total, norm(total)


def fastest_add_norm(
    hidden: Tensor, addition: Tensor, norm: T5LayerNorm, seconds: Callable[[Work], float], own: AddNorm | None = None
) -> AddNorm:
    """One kernel of our own where it gives the same sums, the same norms to a rounding or two, and takes less time."""
    given = (hidden, addition, norm)
    try:
        own = own or AddNormKernel()
        found, expected = own(*given), add_and_norm(*given)
    except KernelError:
        return add_and_norm
    rounding = 2 * torch.finfo(hidden.dtype).eps
    same = torch.equal(found[0], expected[0]) and torch.allclose(found[1], expected[1], rtol=rounding, atol=0.0)
    faster = same and seconds(partial(_run, own, given)) < seconds(partial(_run, add_and_norm, given))
    return own if faster else add_and_norm


def _run(way: AddNorm, given: tuple[Tensor, Tensor, T5LayerNorm]) -> None:
    way(*given)


_SOURCE = """
typedef unsigned short bf16;

__device__ __forceinline__ float wide(bf16 value) { return __uint_as_float((unsigned)value << 16); }

__device__ __forceinline__ bf16 narrow(float value) {  // to the nearest, ties to even; NaN stays NaN
    const unsigned bits = __float_as_uint(value);
    return value != value ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

struct alignas(16) Eight { bf16 at[8]; };

// A block of 256 threads has a row; a thread reads again what it wrote itself.
extern "C" __global__ void __launch_bounds__(256) add_norm(
    const Eight *hidden, const Eight *addition, const Eight *weight, Eight *total, Eight *normed,
    int eights, int epsilon)
{
    __shared__ float parts[8];
    const long long start = (long long)blockIdx.x * eights;
    float squares = 0.0f;
    for (int place = threadIdx.x; place < eights; place += 256) {
        Eight ours = hidden[start + place];
        const Eight theirs = addition[start + place];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            ours.at[i] = narrow(wide(ours.at[i]) + wide(theirs.at[i]));
            squares += wide(ours.at[i]) * wide(ours.at[i]);
        }
        total[start + place] = ours;
    }
#pragma unroll
    for (int apart = 16; apart; apart /= 2) squares += __shfl_xor_sync(0xffffffff, squares, apart);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = squares;
    __syncthreads();
    squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) squares += parts[i];
    const float scale = rsqrtf(squares / (eights * 8) + __int_as_float(epsilon));
    for (int place = threadIdx.x; place < eights; place += 256) {
        Eight ours = total[start + place];
        const Eight by = weight[place];
#pragma unroll
        for (int i = 0; i < 8; ++i) ours.at[i] = narrow(wide(narrow(wide(ours.at[i]) * scale)) * wide(by.at[i]));
        normed[start + place] = ours;
    }
}
"""


class AddNormKernel:
    """An `AddNorm` of bfloat16 on a GPU, rounding where `FusedRmsNorm` does. Raises `KernelError` for others."""

    def __init__(self) -> None:
        self._kernel = Kernel(_SOURCE, "add_norm", {}, library())

    def __call__(self, hidden: Tensor, addition: Tensor, norm: T5LayerNorm) -> tuple[Tensor, Tensor]:
        """See `AddNorm`."""
        given = (hidden, addition, norm.weight)
        whole = all(each.is_contiguous() and each.data_ptr() % 16 == 0 for each in given)
        of_its_kind = all(each.dtype == torch.bfloat16 and each.device.type == "cuda" for each in given)
        if not whole or not of_its_kind or hidden.shape != addition.shape or hidden.shape[-1] % 8:
            raise KernelError("it adds rows of bfloat16 on a GPU, of eights of channels that lie side by side.")
        total, normed = torch.empty_like(hidden), torch.empty_like(hidden)
        epsilon = int.from_bytes(struct.pack("<f", norm.variance_epsilon), "little")
        rows = hidden.numel() // hidden.shape[-1]
        self._kernel(rows, 256, (*given, total, normed, hidden.shape[-1] // 8, epsilon))
        return total, normed

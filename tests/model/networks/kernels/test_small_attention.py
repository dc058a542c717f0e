"""Attention of few queries: what it takes, and on a GPU what it computes."""

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.kernels.attention import torchs_choice
from dynrefer.model.networks.kernels.nvrtc import KernelError
from dynrefer.model.networks.kernels.small_attention import SmallAttention

ON_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def some(queries: int, tokens: int, bias: tuple[int, ...], device: str, width: int = 64) -> tuple[Tensor, ...]:
    """Three regions and four heads, in the memory layout of a decoder's step. Half of the tokens are masked."""
    torch.manual_seed(0)
    projected = torch.randn(3, queries, 3, 4, width)
    keys, values = torch.randn(2, 2, 3, 4, tokens, width)[1]
    mask = torch.randn(bias).masked_fill(torch.arange(tokens) % 2 == 1, float("-inf"))
    moved = (each.to(device, torch.bfloat16) for each in (projected, keys, values, mask))
    whole, *rest = moved
    return whole[:, :, 0].transpose(1, 2), *rest


@pytest.mark.parametrize(("queries", "tokens", "width"), [(2, 16, 64), (5, 16, 64), (2, 129, 64), (2, 16, 32)], ids=str)
def test_what_it_is_not_for_is_refused(queries: int, tokens: int, width: int) -> None:
    with pytest.raises(KernelError):
        SmallAttention()(*some(queries, tokens, (3, 1, 1, tokens), "cpu", width))


@ON_A_GPU
@pytest.mark.parametrize("queries", [1, 2, 3, 4])
@pytest.mark.parametrize("tokens", [1, 8, 40, 64, 100, 128])
def test_as_torch_computes_it(queries: int, tokens: int) -> None:
    attention = SmallAttention()
    for bias in ((3, 1, 1, tokens), (3, 4, queries, tokens)):
        given = some(queries, tokens, bias, "cuda")
        found = attention(*given)
        expected = torchs_choice(*(each.double() for each in given))
        assert found.shape == expected.shape and found.transpose(1, 2).is_contiguous()
        assert (found.double() - expected).abs().max() <= 2**-8 * expected.abs().max()


@ON_A_GPU
def test_channels_that_lie_elsewhere_are_refused() -> None:
    query, keys, values, bias = some(2, 16, (3, 1, 1, 16), "cuda")
    odd = torch.empty(keys.numel() + 1, dtype=keys.dtype, device="cuda")[1:].view_as(keys).copy_(keys)
    apart = keys.transpose(2, 3).contiguous().transpose(2, 3)
    for other in (odd, apart):
        with pytest.raises(KernelError):
            SmallAttention()(query, other, values, bias)

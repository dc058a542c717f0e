"""Which attention a decoder's step takes on a GPU: one of torch's fused ones, or one of our own.

torch's order of preference is made for long sequences. A step has two or so queries per region, and the first choice
was measured at 30 us a call there (32 regions, H100), where reading keys and values takes 5; so it is measured.

Shapes: R = regions, B = queries of a region, M = tokens, d = channels of a head.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dynrefer.model.networks.kernels.graphs import Work

# Those that take a bias. The one by plain products is left out: it copies keys and values to float32.
BACKENDS = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
_FASTER = 0.9  # of the time of torch's own choice: less is noise, and a choice that differs from start to start
_CALLS = 30
_SLEEP = 20_000_000  # of the device's cycles: ten milliseconds

Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AttentionInputs:
    """query: (R, heads, B, d). keys, values: (R, heads, M, d). bias: (R, 1 or heads, 1 or B, M)."""

    query: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor


def torchs_choice(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """softmax(query keys^T + bias) values, without scaling: (R, heads, B, d). Arguments as in `AttentionInputs`."""
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1.0)


def by_backend(backend: SDPBackend, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """As `torchs_choice`; RuntimeError where the backend does not take these inputs."""
    with sdpa_kernel(backend):
        return torchs_choice(query, keys, values, bias)


def fastest_attention(
    inputs: Sequence[AttentionInputs],
    seconds: Callable[[Work], float],
    backends: Sequence[SDPBackend] = BACKENDS,
    more: Sequence[Attention] = (),
) -> Attention:
    """What computes these inputs in the least time, with the same result as torch's own choice.

    seconds: measures a piece of work. more: others than torch's, which raise RuntimeError for what they do not take.
    """
    best: Attention = torchs_choice
    least = _FASTER * seconds(partial(_compute, torchs_choice, inputs))
    others: list[Attention] = [*(partial(by_backend, backend) for backend in backends), *more]
    for attention in others:
        if _takes(attention, inputs) and (time := seconds(partial(_compute, attention, inputs))) < least:
            best, least = attention, time
    return best


def seconds_on_gpu(work: Work) -> float:
    """Per call, of many in a row; the first ones, which set libraries up, do not count.

    The device sleeps until all are launched: what Python takes for a launch is of no interest where it is recorded.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        work()
    torch.cuda._sleep(_SLEEP)
    begin.record()
    for _ in range(_CALLS):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / _CALLS


def _compute(attention: Attention, inputs: Sequence[AttentionInputs]) -> None:
    for each in inputs:
        attention(each.query, each.keys, each.values, each.bias)


def _takes(attention: Attention, inputs: Sequence[AttentionInputs]) -> bool:
    """Whether it computes these, and the same as torch's own choice."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says why a backend does not take them
            return all(_agree(attention, each) for each in inputs)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except RuntimeError:
        return False


def _agree(attention: Attention, inputs: AttentionInputs) -> bool:
    ours, theirs = (each(inputs.query, inputs.keys, inputs.values, inputs.bias) for each in (attention, torchs_choice))
    rounding = 4 * torch.finfo(theirs.dtype).eps
    return torch.allclose(ours, theirs, rtol=rounding, atol=rounding * float(inputs.values.abs().amax()))

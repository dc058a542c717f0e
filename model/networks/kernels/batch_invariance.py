"""Batch invariance: a region's numbers do not depend on what else is in its batch, to the last bit.

A library picks its kernel by the shape of the whole product, so a row may be rounded differently where there are other
rows. Measured on x86-64, this happens for very few rows, for single columns and for a convolution of one image; the
functions here avoid those shapes. That it holds on the machine at hand is not assumed but probed: `is_batch_invariant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.kernels.onednn import by_onednn

if TYPE_CHECKING:
    from dynrefer.model.networks.dynrefer.model import DynReferModel

# From so many rows on, a row of torch's float32 product is the same whatever the others are, as measured with one
# thread and with two.
LEAST_ROWS = 16

# Control words are padded to a multiple of this: whole vectors of padding add nothing to a sum, a part of one changes
# the order of its additions.
CONTROL_MULTIPLE = 16


def is_lone_view(images: Tensor) -> bool:
    """Whether a view (N, 3, S, S) has to be encoded together with a copy of itself.

    On a CPU the convolution of one image rounds differently from that of several.
    """
    return images.device.type == "cpu" and len(images) == 1


def least_regions(beams: int) -> int:
    """How many regions a caption batch of torch's own products on a CPU needs at least, each with so many beams."""
    return -(-LEAST_ROWS // beams)


def repeat_last(rows: Tensor, times: int) -> Tensor:
    """Pad a batch by repeating its last row so many times."""
    return torch.cat((rows, rows[-1:].expand(times, *rows.shape[1:])))


def dot_products(rows: Tensor, weights: Tensor) -> Tensor:
    """The dot product of each row with its weights, (..., D) with (..., D) broadcast -> (...); overwrites `rows`.

    A sum and not a matrix product: one of a single column rounds a row differently where there are other rows.
    """
    return rows.mul_(weights).sum(-1)


def is_batch_invariant(network: DynReferModel, texts: int) -> bool:
    """Probe whether rows get the same bits alone as together, in the kernels that inference uses.

    texts: the size of the smallest vocabulary. Small fixed inputs go through every kind of linear layer and convolution
    of the network, through attention and a recognition decoder, in as few rows as inference has and among others: some
    ten milliseconds for a small network. The answer is evidence, not proof: a kernel that differs only at other sizes
    goes unnoticed. It holds for the number of threads at load, since libraries choose kernels by that too.
    """
    with torch.inference_mode():
        return all(same_alone(*probe) for probe in _probes(network, texts))


# What is computed, of which rows, and how many of them the smallest batch has.
_Probe = tuple[Callable[[Tensor], Tensor], Tensor, int]


def same_alone(compute: Callable[[Tensor], Tensor], rows: Tensor, least: int) -> bool:
    """Whether the last `least` rows, where kernels treat a remainder, are the same alone and behind the others."""
    return torch.equal(compute(rows[-least:]), compute(rows)[-least:])


def _probes(network: DynReferModel, texts: int) -> Iterator[_Probe]:
    yield _decoder_probe(network, texts)
    yield from _linear_probes(network)
    yield from _product_probes(network)
    yield from _convolution_probes(network)


def _decoder_probe(network: DynReferModel, texts: int) -> _Probe:
    """Both recognition decoders have the same sizes."""
    like, config = network.query_tokens, network.config
    prepared = network.tag_decoder.prepare(_fixed((min(texts, 24), config.text_config.projection_dim), like))
    return partial(network.tag_decoder.score, prepared=prepared), _fixed((3, *like.shape[1:]), like), 1


def _linear_probes(network: DynReferModel) -> Iterator[_Probe]:
    """One per kind of linear layer. Those of the text tower see no region."""
    texts, language = set(network.text.modules()), set(network.language.model.modules())
    kinds: dict[tuple[object, ...], tuple[nn.Linear, int]] = {}
    for module in network.modules():
        # A layer of one column is not called: see `dot_products`.
        if isinstance(module, nn.Linear) and module.out_features > 1 and module not in texts:
            least = _least_rows(module, LEAST_ROWS if module in language else network.config.num_queries)
            kind = (type(module), module.weight.shape, module.bias is None, module.weight.dtype, least)
            kinds.setdefault(kind, (module, least))
    for layer, least in kinds.values():
        yield layer, _fixed((least + 85, layer.in_features), layer.weight), least


def _least_rows(layer: nn.Linear, otherwise: int) -> int:
    """The fewest rows that a layer gets: padding is for torch's own kernels on a CPU."""
    torchs_own = layer.weight.device.type == "cpu" and not by_onednn(layer.weight, layer)
    return otherwise if torchs_own else 1


def _product_probes(network: DynReferModel) -> Iterator[_Probe]:
    """Products within a region, batched over regions: of the alignment, and of attention."""
    rows = _fixed((3, 4, 64, 40), network.fusion.project.weight)  # (R, groups or heads, tokens, channels)
    yield _gram, rows, 1
    for queries in (2, 16):  # of the beams of a caption, of the queries of a region
        yield partial(_attention, queries), rows, 1


def _gram(rows: Tensor) -> Tensor:
    return torch.matmul(rows, rows.transpose(2, 3))


def _attention(queries: int, rows: Tensor) -> Tensor:
    mask = rows.new_zeros(len(rows), 1, 1, rows.shape[2])
    return F.scaled_dot_product_attention(rows[:, :, :queries], rows, rows, attn_mask=mask)


def _convolution_probes(network: DynReferModel) -> Iterator[_Probe]:
    """One per kind of convolution of the vision tower, and the one of the alignment."""
    kinds: dict[tuple[object, ...], nn.Conv2d] = {}
    for module in network.vision.modules():
        if isinstance(module, nn.Conv2d):
            kinds.setdefault((module.weight.shape, module.stride, module.padding, module.groups), module)
    for layer in kinds.values():
        side = max(8, 2 * layer.kernel_size[0])
        yield layer, _fixed((5, layer.in_channels, side, side), layer.weight), 2
    if (others := network.config.num_views - 1) > 0:  # views that are aligned with t = 0
        weight = network.fusion.project.weight
        yield partial(_convolve, network), _fixed((2 * others, len(weight), 8, 8), weight), others


def _convolve(network: DynReferModel, maps: Tensor) -> Tensor:
    return network.align.convolve(maps, maps)


def _fixed(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The same numbers every time, in the dtype and on the device of `like`; torch's global generator is not used."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(like)

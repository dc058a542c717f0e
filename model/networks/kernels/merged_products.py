"""Linear layers that read the same rows, in one product: their weights one behind the other in memory.

Each layer keeps its weight, which is a view of the merged one: nothing is stored twice, names and saving stay as they
are, and what calls the layers one by one still works. Moving the network to another device separates them again.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5Attention, T5DenseGatedActDense


def merge_products(network: nn.Module) -> None:
    """Merge what T5's layers compute of the same rows; the weights keep their values.

    Needs memory for one merged weight at a time beside the network.
    """
    for module in network.modules():
        if layers := _layers(module):
            merge_weights(layers)


def _layers(module: nn.Module) -> Sequence[nn.Linear]:
    """Both first products of a gated feed-forward part; query, key and value of an attention.

    The queries of a cross-attention are other rows than its keys and values, so there the latter two are one product.
    """
    if isinstance(module, T5DenseGatedActDense):
        return module.wi_0, module.wi_1
    if isinstance(module, T5Attention):
        return module.q, module.k, module.v
    return ()


@torch.no_grad()
def merge_weights(layers: Sequence[nn.Linear]) -> None:
    """Put the weights of layers without bias, (C_out each, C_in), one behind the other in memory."""
    merged = torch.cat([layer.weight for layer in layers])
    start = 0
    for layer in layers:
        layer.weight.data = merged[start : start + layer.out_features]
        start += layer.out_features


def merged_weight(layers: Sequence[nn.Linear]) -> Tensor | None:
    """The weights as one (sum of C_out, C_in), or None where they do not lie one behind the other."""
    first = layers[0].weight.detach()
    storage, end = first.untyped_storage().data_ptr(), first.storage_offset()
    for layer in layers:
        weight = layer.weight
        alike = weight.dtype == first.dtype and weight.shape[1] == first.shape[1] and weight.is_contiguous()
        behind = weight.untyped_storage().data_ptr() == storage and weight.storage_offset() == end
        if layer.bias is not None or not alike or not behind:
            return None
        end += weight.numel()
    return first.as_strided((sum(layer.out_features for layer in layers), first.shape[1]), first.stride())


class MergedProduct:
    """What several linear layers make of the same rows, side by side; one product where their weights are merged."""

    def __init__(self, *layers: Any) -> None:
        self._layers, self._weight = layers, merged_weight(layers)

    def __call__(self, rows: Tensor) -> Tensor:
        """(..., C_in) -> (..., sum of C_out)."""
        if self._weight is not None:
            return F.linear(rows, self._weight)
        return torch.cat([layer(rows) for layer in self._layers], dim=-1)

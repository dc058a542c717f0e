"""Merged weights: one product, nothing stored twice, and whoever knows the layers one by one notices nothing."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.merged_products import MergedProduct, merge_products, merge_weights, merged_weight
from tests.model.networks.conftest import perturbed, small_config


def layers(*sizes: int, bias: bool = False) -> list[nn.Linear]:
    """Layers of so many columns, with random weights."""
    torch.manual_seed(0)
    return [nn.Linear(12, size, bias=bias) for size in sizes]


def test_the_weights_keep_their_values_in_one_place() -> None:
    some = layers(5, 3, 8)
    before = [layer.weight.clone() for layer in some]
    merge_weights(some)
    assert all(torch.equal(layer.weight, old) for layer, old in zip(some, before, strict=True))
    merged = merged_weight(some)
    assert merged is not None and torch.equal(merged, torch.cat(before))
    with torch.no_grad():
        some[1].weight.zero_()
    assert merged[5:8].abs().sum() == 0 and merged[:5].abs().sum() > 0  # the same memory
    pair = merged_weight(some[1:])
    assert pair is not None and pair.shape == (11, 12)


def test_layers_that_lie_apart_are_computed_apart() -> None:
    some, rows = layers(5, 3), torch.randn(4, 12)
    assert merged_weight(some) is None
    apart = MergedProduct(*some)(rows)
    merge_weights(some)
    assert merged_weight(some[::-1]) is None  # in another order than they lie
    assert merged_weight([some[0], layers(3)[0]]) is None
    assert merged_weight(layers(5, 3, bias=True)) is None
    assert torch.allclose(MergedProduct(*some)(rows), apart, atol=1e-6)
    assert merged_weight([layer.to(torch.bfloat16) for layer in some]) is None


def test_the_language_model_stays_what_it_is(tmp_path: Path) -> None:
    network = perturbed(DynReferModel(small_config()))
    before = copy.deepcopy(network)
    merge_products(network)
    assert network.state_dict().keys() == before.state_dict().keys()
    ours, theirs = network.state_dict(), before.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for block in [*network.language.model.encoder.block, *network.language.model.decoder.block]:
        dense, own = block.layer[-1].DenseReluDense, block.layer[0].SelfAttention
        for several in ([dense.wi_0, dense.wi_1], [own.q, own.k, own.v], [own.k, own.v]):
            assert merged_weight(several) is not None
    for block in network.language.model.decoder.block:
        assert merged_weight([block.layer[1].EncDecAttention.k, block.layer[1].EncDecAttention.v]) is not None
    network.save_pretrained(tmp_path)
    stored = DynReferModel.from_pretrained(tmp_path).state_dict()
    assert stored.keys() == theirs.keys() and all(torch.equal(stored[name], theirs[name]) for name in theirs)


def test_no_weight_is_stored_twice() -> None:
    network = perturbed(DynReferModel(small_config()))

    def stored() -> int:
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage() for each in network.parameters()}
        return sum(storage.nbytes() for storage in storages.values())

    before = stored()
    merge_products(network)
    assert stored() == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: network.to(torch.float64)])
def test_copies_and_other_dtypes_compute_the_same(copied: object) -> None:
    """Whether or not their weights still lie in one place."""
    network = perturbed(DynReferModel(small_config()))
    merge_products(network)
    prompt = torch.randn(2, 4, 32), torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)
    expected = network.language.generate(*prompt, num_beams=2, max_new_tokens=4)
    other = copied(network)  # type: ignore[operator]
    found = other.language.generate(*prompt, num_beams=2, max_new_tokens=4)
    assert found.tokens.tolist() == expected.tokens.tolist()

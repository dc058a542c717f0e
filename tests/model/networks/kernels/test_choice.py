"""Kernels by device."""

import copy

import pytest
import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from dynrefer.model.errors import DeviceError
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.choice import choose_kernels
from dynrefer.model.networks.kernels.merged_products import merged_weight
from dynrefer.model.networks.kernels.rms_norm import FusedRmsNorm
from dynrefer.model.networks.kernels.split_products import SplitLinear
from tests.model.networks.conftest import perturbed, small_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_cpu_keeps_transformers_norms_and_products() -> None:
    network = perturbed(DynReferModel(small_config()))
    choose_kernels(network, CPU)
    own = network.language.model.decoder.block[0].layer[0]
    assert type(own.layer_norm) is T5LayerNorm
    assert merged_weight([own.SelfAttention.q, own.SelfAttention.k, own.SelfAttention.v]) is None


def test_what_a_gpu_computes_with_gives_the_same_captions() -> None:
    """Chosen as for a GPU, computed here."""
    network = perturbed(DynReferModel(small_config()))
    plain = copy.deepcopy(network)
    choose_kernels(network, GPU)
    own = network.language.model.decoder.block[0].layer[0]
    assert type(own.layer_norm) is FusedRmsNorm
    assert merged_weight([own.SelfAttention.q, own.SelfAttention.k, own.SelfAttention.v]) is not None
    torch.manual_seed(0)
    prompt = torch.randn(5, 4, 32), torch.randint(2, 90, (5, 3)), torch.ones(5, 3, dtype=torch.int64)
    expected, found = plain.language.generate(*prompt), network.language.generate(*prompt)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert torch.allclose(found.score, expected.score, atol=1e-5)


def test_float32_is_float32_in_the_convolutions_of_a_gpu() -> None:
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    try:
        convolutions.fp32_precision = "tf32"
        choose_kernels(perturbed(DynReferModel(small_config())), CPU)
        assert convolutions.fp32_precision == "tf32"
        choose_kernels(perturbed(DynReferModel(small_config())), GPU)
        assert convolutions.fp32_precision == "ieee"
    finally:
        convolutions.fp32_precision = before


@pytest.mark.parametrize("device", [CPU, GPU])
def test_unknown_kernels_are_refused(device: torch.device) -> None:
    with pytest.raises(DeviceError, match="mkl"):
        choose_kernels(perturbed(DynReferModel(small_config())), device, "mkl")


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, nn.Linear), (torch.bfloat16, SplitLinear)])
def test_keys_of_the_q_former_are_split_where_their_rows_are_bfloat16(dtype: torch.dtype, kind: type) -> None:
    network = DynReferModel._from_config(small_config(), dtype=dtype)  # type: ignore[no-untyped-call]
    network.qformer.float()
    choose_kernels(network, GPU)
    crossing = [each for each in network.qformer.modules() if getattr(each, "has_cross_attention", False)]
    assert crossing and {type(each.crossattention.attention.key) for each in crossing} == {kind}

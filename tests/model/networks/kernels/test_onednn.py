"""Linear layers by oneDNN against torch's own, which answer where gradients are asked for."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.onednn import AVAILABLE, OneDnnLinear, OneDnnMLP, linear, use_onednn
from tests.model.networks.conftest import perturbed, small_config, some_regions

ROWS = 300


@pytest.fixture(params=[(48, 96, True), (512, 512, False)], ids=["small, bias", "larger, no bias"])
def layer(request: pytest.FixtureRequest) -> nn.Linear:
    torch.manual_seed(0)
    inside, outside, bias = request.param
    return OneDnnLinear(inside, outside, bias=bias)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_the_same_as_torch(layer: nn.Linear, dtype: torch.dtype, gelu: bool) -> None:
    layer = layer.to(dtype)
    rows = torch.randn(5, ROWS, layer.in_features, dtype=dtype)
    expected = F.linear(rows.float(), layer.weight.float(), None if layer.bias is None else layer.bias.float())
    expected = F.gelu(expected) if gelu else expected
    found = linear(rows, layer, gelu=gelu)
    assert found.dtype == dtype and found.shape == expected.shape
    assert torch.allclose(found.float(), expected, rtol=2**-7 if dtype is torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.skipif(not AVAILABLE, reason="torch was built without oneDNN here")
@torch.inference_mode()
def test_a_row_in_float32_is_the_same_in_any_company(layer: nn.Linear) -> None:
    rows = torch.randn(ROWS, layer.in_features)
    together = linear(rows, layer, gelu=True)
    for count in (1, 2, 3, 7, 12, 64, 257):
        assert torch.equal(linear(rows[:count], layer, gelu=True), together[:count]), count
    assert torch.equal(linear(rows[None, None, :1], layer, gelu=True), together[None, None, :1])


def test_odd_rows_are_left_to_torch(layer: nn.Linear) -> None:
    one = torch.randn(layer.in_features)
    with torch.inference_mode():
        assert torch.equal(linear(one, layer), F.linear(one, layer.weight, layer.bias))
        assert linear(torch.empty(2, 0, layer.in_features), layer, gelu=True).shape == (2, 0, layer.out_features)
        mixed = linear(torch.randn(4, layer.in_features).double(), layer.double())
    assert mixed.dtype == torch.float64


def test_gradients_are_torchs_own(layer: nn.Linear) -> None:
    rows = torch.randn(ROWS, layer.in_features, requires_grad=True)
    linear(rows, layer, gelu=True).sum().backward()
    ours, rows.grad = rows.grad, None
    F.gelu(F.linear(rows, layer.weight, layer.bias)).sum().backward()
    assert ours is not None and torch.equal(ours, rows.grad)


@pytest.mark.skipif(not AVAILABLE, reason="torch was built without oneDNN here")
def test_a_network_answers_the_same_with_every_linear_layer_replaced() -> None:
    network = perturbed(DynReferModel(small_config("vit")))
    images, boxes = some_regions(network.config, 2)
    texts = torch.randn(7, network.config.text_config.projection_dim)
    names, plain = list(network.state_dict()), _answers(network, images, boxes, texts)
    use_onednn(network)
    assert OneDnnLinear not in _kinds(network)  # a small network is left as it is
    use_onednn(network, least_parameters=0)
    assert nn.Linear not in _kinds(network) and {OneDnnLinear, OneDnnMLP} <= _kinds(network)
    assert list(network.state_dict()) == names
    for ours, theirs in zip(_answers(network, images, boxes, texts), plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def _kinds(network: nn.Module) -> set[type]:
    return {type(module) for module in network.modules()}


@torch.inference_mode()
def _answers(network: DynReferModel, images: Tensor, boxes: Tensor, texts: Tensor) -> list[Tensor]:
    found = network(images, boxes, texts, texts)
    return [found.representation, found.tag_logits, found.region_text_logits]

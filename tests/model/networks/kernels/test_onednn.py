"""Linear layers by oneDNN compared with torch's own, which run where gradients are needed."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.errors import DeviceError
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels import onednn
from dynrefer.model.networks.kernels.batch_invariance import same_alone
from dynrefer.model.networks.kernels.onednn import OneDnnLinear, OneDnnMLP, available, linear, use_onednn
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


@pytest.mark.skipif(not available(), reason="torch was built without oneDNN here")
@torch.inference_mode()
def test_a_row_in_float32_is_the_same_in_any_batch(layer: nn.Linear) -> None:
    """To the last bit where the probe says so: on some processors oneDNN rounds a row by how many there are."""
    rows = torch.randn(ROWS, layer.in_features)
    same = torch.equal if same_alone(partial(linear, layer=layer, gelu=True), rows, 1) else _close
    together = linear(rows, layer, gelu=True)
    for count in (1, 2, 3, 7, 12, 64, 257):
        assert same(linear(rows[:count], layer, gelu=True), together[:count]), count
    assert same(linear(rows[None, None, :1], layer, gelu=True), together[None, None, :1])


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


@pytest.mark.skipif(not available(), reason="torch was built without oneDNN here")
def test_a_network_answers_the_same_with_every_linear_layer_replaced() -> None:
    network = perturbed(DynReferModel(small_config("vit")))
    images, boxes = some_regions(network.config, 2)
    texts = torch.randn(7, network.config.text_config.projection_dim)
    names, plain = list(network.state_dict()), _answers(network, images, boxes, texts)
    use_onednn(network)
    assert OneDnnLinear not in _kinds(network)  # a small network is left as it is
    use_onednn(network, "onednn")
    assert nn.Linear not in _kinds(network) and {OneDnnLinear, OneDnnMLP} <= _kinds(network)
    assert list(network.state_dict()) == names
    for ours, theirs in zip(_answers(network, images, boxes, texts), plain, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.skipif(not available(), reason="torch was built without oneDNN here")
def test_which_kernels_a_network_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """By processor and size where nothing is requested; the more exact entry of the table wins."""

    def chosen(kernels: str, table: dict[str, int], machine: str = "x86_64") -> bool:
        network = perturbed(DynReferModel(small_config("vit")))
        monkeypatch.setattr(onednn, "LEAST_PARAMETERS", table)
        monkeypatch.setattr("platform.machine", lambda: machine)
        use_onednn(network, kernels)
        return OneDnnLinear in _kinds(network)

    capability = torch.backends.cpu.get_cpu_capability()
    assert chosen("auto", {"x86_64": 0}) and chosen("auto", {"x86_64": 0}, "AMD64")
    assert not chosen("auto", {"x86_64": 50_000_000}) and not chosen("auto", {"x86_64": 0}, "aarch64")
    assert not chosen("auto", {"x86_64": 0, f"x86_64 {capability}": 50_000_000})
    assert chosen("onednn", {}, "aarch64") and not chosen("torch", {"x86_64": 0})


def test_kernels_that_cannot_be_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(DeviceError, match="'mkl' is not one of auto, onednn, torch"):
        use_onednn(network, "mkl")
    monkeypatch.setattr(onednn, "available", lambda: False)
    with pytest.raises(DeviceError, match="'onednn' was requested"):
        use_onednn(network, "onednn")
    monkeypatch.setattr(onednn, "LEAST_PARAMETERS", dict.fromkeys(("x86_64", "aarch64", "arm64"), 0))
    use_onednn(network)
    assert _kinds(network) == {nn.Sequential, nn.Linear}


@pytest.mark.parametrize("fault", ["missing", "other arguments", "other numbers"])
def test_a_changed_operator_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Operators:
        @staticmethod
        def _linear_pointwise(rows: Tensor, weight: Tensor, *_: object) -> Tensor:
            if fault == "other arguments":
                raise RuntimeError("_linear_pointwise() is missing value for argument 'scale'")
            return F.linear(rows, weight)  # without the bias

    monkeypatch.setattr(torch.ops, "mkldnn", object() if fault == "missing" else Operators())
    assert not onednn.available.__wrapped__()


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5)


def _kinds(network: nn.Module) -> set[type]:
    return {type(module) for module in network.modules()}


@torch.inference_mode()
def _answers(network: DynReferModel, images: Tensor, boxes: Tensor, texts: Tensor) -> list[Tensor]:
    found = network(images, boxes, texts, texts)
    return [found.representation, found.tag_logits, found.region_text_logits]

"""Products in two parts of TF32, with TF32's rounding of the operands done on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels import split_products
from dynrefer.model.networks.kernels.split_products import (
    SplitLinear,
    WhollySplitLinear,
    is_exact,
    rounded,
    rows_split_by_kernel,
    side_by_side,
    use_split_products,
)
from tests.model.networks.conftest import perturbed, small_config, some_regions


def truncated(values: Tensor) -> Tensor:
    """What a tensor core reads of a float32."""
    return values.contiguous().view(torch.int32).bitwise_and(~0x1FFF).view(torch.float32)


@pytest.fixture
def tensor_cores(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Products of `addmm` as in TF32 where that is set; the precisions that were set."""
    seen, addmm = list[str](), torch.addmm

    def fewer_bits(bias: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        seen.append(torch.backends.cuda.matmul.fp32_precision)
        return addmm(bias, truncated(rows), truncated(weight))

    monkeypatch.setattr(torch, "addmm", fewer_bits)
    monkeypatch.setattr(Tensor, "addmm_", lambda self, rows, weight: self.copy_(torch.addmm(self, rows, weight)))
    return seen


@pytest.fixture(autouse=True)
def _precision_is_left_as_it_was() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    yield
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_parts_have_eleven_bits_and_add_up_to_the_weight() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(2)) * torch.logspace(-6, 6, 64)
    high = rounded(weight)
    low = rounded(weight - high)
    assert all(torch.equal(truncated(part), part) for part in (high, low))
    assert ((high.double() + low.double() - weight.double()).abs() <= 2.0**-23 * weight.double().abs()).all()
    assert torch.equal(
        rounded(torch.tensor([1 + 2.0**-11, -1 - 2.0**-11, 0.0])), torch.tensor([1 + 2**-10, -1 - 2**-10, 0])
    )


def test_two_parts_are_as_exact_as_float32(tensor_cores: list[str]) -> None:
    layer = nn.Linear(1408, 32)
    layer.__class__ = SplitLinear
    layer.split()  # type: ignore[operator]
    rows = torch.randn(2, 50, 1408, generator=torch.Generator().manual_seed(3)).bfloat16().float()
    expected = torch.nn.functional.linear(rows.double(), layer.weight.double(), layer.bias.double())
    with torch.inference_mode():
        found, plain = layer(rows), torch.nn.functional.linear(rows, layer.weight, layer.bias)
    error, usual = ((each - expected).norm() / expected.norm() for each in (found, plain))
    assert found.shape == (2, 50, 32) and error < 2 * usual + 1e-7
    assert tensor_cores == ["tf32", "tf32"]
    layer.low.zero_()
    assert not is_exact(layer), "one part alone must not pass, or the probe shows nothing"


def test_rows_in_two_parts_too_are_as_exact_as_float32(tensor_cores: list[str]) -> None:
    layer = nn.Linear(768, 32)
    layer.__class__ = WhollySplitLinear
    layer.split()  # type: ignore[operator]
    rows = torch.randn(2, 50, 768, generator=torch.Generator().manual_seed(3))
    expected = torch.nn.functional.linear(rows.double(), layer.weight.double(), layer.bias.double())
    with torch.inference_mode():
        found, plain = layer(rows), torch.nn.functional.linear(rows, layer.weight, layer.bias)
    error, usual = ((each - expected).norm() / expected.norm() for each in (found, plain))
    assert found.shape == (2, 50, 32) and error < 2 * usual + 1e-7
    assert tensor_cores == ["tf32"]
    layer.parts[:, 768:1536].zero_()
    assert not is_exact(layer), "without the weight's small part it must not pass"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_kernel_splits_as_torch_does() -> None:
    assert rows_split_by_kernel(torch.device("cuda", 0)) and not rows_split_by_kernel(torch.device("cpu"))
    rows = torch.randn(7, 768, generator=torch.Generator().manual_seed(3)) * torch.logspace(-20, 20, 768)
    assert torch.equal(side_by_side(rows.cuda()).cpu(), side_by_side(rows))


def test_layers_are_split_on_their_own_gpu(tensor_cores: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    entered = list[torch.device]()

    @contextmanager
    def on(device: torch.device) -> Iterator[None]:
        entered.append(device)
        yield

    monkeypatch.setattr(split_products, "current_device", on)
    assert use_split_products(perturbed(DynReferModel(small_config())))
    assert entered == [torch.device("cpu")] and not use_split_products(nn.Linear(2, 2))


def test_with_the_kernel_all_layers_of_the_q_former_are_split(
    tensor_cores: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = perturbed(DynReferModel(small_config()))
    images, boxes = some_regions(network.config, 2)
    monkeypatch.setattr(split_products, "rows_split_by_kernel", lambda device: True)
    with torch.inference_mode():
        fused = network.fuse(network.encode(images.flatten(0, 1)), boxes).bfloat16()
        expected = network.compress(fused)
        assert use_split_products(network)
        found = network.compress(fused)
    assert not any(type(each) is nn.Linear for each in network.qformer.modules())
    assert {type(each) for each in network.modules() if isinstance(each, WhollySplitLinear)} == {WhollySplitLinear}
    assert all(type(each) is not WhollySplitLinear for each in network.tag_decoder.modules())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tower", ["vit", "convolutional"])
def test_a_network_with_split_products_gives_the_same(tower: str, tensor_cores: list[str]) -> None:
    """From a fusion in bfloat16, as on a GPU."""
    network = perturbed(DynReferModel(small_config(tower)))
    images, boxes = some_regions(network.config, 2)
    names = set(network.state_dict())
    with torch.inference_mode():
        fused = network.fuse(network.encode(images.flatten(0, 1)), boxes).bfloat16()
        expected = network.compress(fused)
        assert use_split_products(network.qformer)
        tensor_cores.clear()
        found = network.compress(fused)
    assert len(tensor_cores) == 2 * 2 * sum(layer.has_cross_attention for layer in network.qformer.encoder.layer)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert set(network.state_dict()) == names


@pytest.mark.parametrize("fault", ["inexact", "refused"])
def test_where_the_probe_fails_the_layers_stay_as_they_were(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Tensor:
        raise RuntimeError("no such operator")

    network = DynReferModel(small_config())
    if fault == "inexact":
        monkeypatch.setattr(split_products, "TOLERANCE", 0.0)
    else:
        monkeypatch.setattr(torch, "addmm", fail)
    attributes = {name: set(vars(module)) for name, module in network.qformer.named_modules()}
    assert not use_split_products(network.qformer)
    assert not any(isinstance(module, SplitLinear) for module in network.modules())
    assert {name: set(vars(module)) for name, module in network.qformer.named_modules()} == attributes

"""The probe of batch invariance: what it finds of kernels that depend on the batch, and of those that do not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.batch_invariance import dot_products, is_batch_invariant, repeat_last
from tests.model.networks.conftest import perturbed, small_config

TEXTS = 16


def by_size(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A kernel that is off by a little, more where its batch is larger."""

    def found(rows: Tensor, *rest: object, **more: object) -> Tensor:
        return kernel(rows, *rest, **more) + len(rows) * 1e-3

    return found


@pytest.mark.parametrize("where", ["linear", "conv2d", "scaled_dot_product_attention"])
def test_a_kernel_that_depends_on_its_batch_is_detected(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = perturbed(DynReferModel(small_config("vit")))
    monkeypatch.setattr(F, where, by_size(getattr(F, where)))
    assert not is_batch_invariant(network, TEXTS)


def test_a_matrix_product_that_depends_on_its_batch_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    network = perturbed(DynReferModel(small_config("vit")))
    monkeypatch.setattr(torch, "matmul", by_size(torch.matmul))
    assert not is_batch_invariant(network, TEXTS)


def test_kernels_that_round_every_row_alike_are_found_invariant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kernel computes in float64, where another order of additions does not reach float32's last bit."""
    network = perturbed(DynReferModel(small_config("vit")))
    kernels = ((F, "linear"), (F, "conv2d"), (F, "scaled_dot_product_attention"), (torch, "matmul"), (torch, "baddbmm"))
    for owner, name in kernels:
        monkeypatch.setattr(owner, name, in_float64(getattr(owner, name)))
    assert is_batch_invariant(network, TEXTS)


def in_float64(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def doubled(value: object) -> object:
        return value.double() if isinstance(value, Tensor) else value

    def found(*given: object, **named: object) -> Tensor:
        return kernel(*map(doubled, given), **{name: doubled(value) for name, value in named.items()}).float()

    return found


def test_the_probe_leaves_torchs_generator_alone() -> None:
    network = perturbed(DynReferModel(small_config("vit")))
    before = torch.get_rng_state()
    is_batch_invariant(network, TEXTS)
    assert torch.equal(torch.get_rng_state(), before)


def test_dot_products_and_padding() -> None:
    rows, weights = torch.randn(3, 5), torch.randn(5)
    expected = rows @ weights
    assert torch.allclose(dot_products(rows.clone(), weights), expected, atol=1e-6)
    assert torch.equal(repeat_last(rows, 2), torch.cat((rows, rows[2:], rows[2:])))

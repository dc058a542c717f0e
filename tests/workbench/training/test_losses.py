"""The losses against their definitions, written out entry by entry."""

import math

import pytest
import torch

from dynrefer.workbench.training.losses import DynReferLosses, asymmetric_loss, sigmoid_contrastive_loss


def by_hand(logit: float, target: int, gamma: float, clip: float) -> float:
    """One entry of the asymmetric loss."""
    probability = 1 / (1 + math.exp(-logit))
    right = probability if target else min(1 - probability + clip, 1.0)
    return -math.log(max(right, 1e-8)) * (1 - right) ** (0 if target else gamma)


@pytest.mark.parametrize(("gamma", "clip"), [(7.0, 0.05), (4.0, 0.05), (2.0, 0.0)])
def test_asymmetric_loss(gamma: float, clip: float) -> None:
    logits = torch.tensor([[-6.0, -1.0, 0.5, 4.0], [2.0, -3.0, 0.0, 30.0]])
    targets = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0]])
    entries = zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)
    expected = sum(by_hand(logit, target, gamma, clip) for logit, target in entries)
    ours = asymmetric_loss(logits, targets, gamma_negative=gamma, clip=clip)
    assert ours.item() == pytest.approx(expected, rel=1e-4)


def test_focusing_weight_carries_no_gradient() -> None:
    logit = torch.tensor([[0.3]], requires_grad=True)
    asymmetric_loss(logit, torch.zeros(1, 1)).backward()
    probability = torch.sigmoid(torch.tensor(0.3))
    right = 1 - probability + 0.05
    expected = (1 - right) ** 7 * probability * (1 - probability) / right
    assert logit.grad is not None
    assert logit.grad.item() == pytest.approx(expected.item(), rel=1e-5)


def test_easy_negatives_are_forgotten() -> None:
    logits = torch.tensor([[-4.0]], requires_grad=True)  # a probability below the clip
    loss = asymmetric_loss(logits, torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == 0.0 and logits.grad is not None and logits.grad.item() == 0.0


def test_sigmoid_contrastive_loss() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 4)
    expected = 0.0
    for row in range(4):
        for column in range(4):
            sign = 1.0 if row == column else -1.0
            expected += math.log1p(math.exp(-sign * logits[row, column].item()))
    assert sigmoid_contrastive_loss(logits).item() == pytest.approx(expected / 4, rel=1e-5)
    assert sigmoid_contrastive_loss(logits.T).item() == pytest.approx(expected / 4, rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    total = sigmoid_contrastive_loss(-logits) + asymmetric_loss(-logits, torch.eye(2))
    total.backward()
    assert total.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_total_is_the_weighted_sum() -> None:
    losses = DynReferLosses(torch.tensor(2.0), torch.tensor(300.0), torch.tensor(4.0))
    assert losses.total.item() == pytest.approx(2.0 + 3.0 + 2.0)

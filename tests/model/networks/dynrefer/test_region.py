"""RoIAlign against a plain loop, and the fusion of the views."""

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.region import ViewFusion, roi_align


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """RoIAlign's interpolation of a (C, H, W) map at one point, with its rules at the border."""
    height, width = plane.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    return (
        plane[:, top, left] * (1 - down) * (1 - along)
        + plane[:, top, right] * (1 - down) * along
        + plane[:, bottom, left] * down * (1 - along)
        + plane[:, bottom, right] * down * along
    )


def roi_align_by_loop(features: Tensor, boxes: Tensor, scale: float, size: int, samples: int) -> Tensor:
    """Bin by bin, sample by sample, as the operator is defined (aligned=False)."""
    pooled = features.new_zeros(features.shape[0], features.shape[1], size, size)
    for n, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (value * scale for value in box)
        step_x, step_y = max(x2 - x1, 1.0) / size, max(y2 - y1, 1.0) / size
        for row in range(size):
            for column in range(size):
                points = [
                    (y1 + step_y * (row + (i + 0.5) / samples), x1 + step_x * (column + (j + 0.5) / samples))
                    for i in range(samples)
                    for j in range(samples)
                ]
                found = torch.stack([bilinear(features[n], y, x) for y, x in points])
                pooled[n, :, row, column] = found.mean(dim=0)
    return pooled


BOXES = {
    "inside": (3.0, 10.0, 47.0, 30.0),
    "whole": (0.0, 0.0, 56.0, 56.0),
    "one pixel": (20.0, 21.0, 21.0, 22.0),
    "at the far border": (50.0, 40.0, 56.0, 55.0),
    "beyond the border": (-20.0, 30.0, 20.0, 90.0),
    "far outside": (200.0, 200.0, 220.0, 230.0),
}


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_roi_align_is_the_loop(samples: int) -> None:
    torch.manual_seed(0)
    boxes = torch.tensor(list(BOXES.values()))
    features = torch.randn(len(boxes), 5, 6, 8)  # not square
    ours = roi_align(features, boxes, 1 / 7, 4, samples)
    theirs = roi_align_by_loop(features, boxes, 1 / 7, 4, samples)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert not ours[list(BOXES).index("far outside")].any()


def test_roi_align_keeps_the_dtype_and_passes_gradients() -> None:
    features = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    pooled = roi_align(features, torch.tensor([[0.0, 0.0, 28.0, 28.0]]), 1 / 7, 4, 2)
    assert pooled.dtype == torch.bfloat16
    pooled.float().sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0


def test_fusion_reads_the_views_in_their_order() -> None:
    torch.manual_seed(0)
    fusion, views = ViewFusion(6, 3), torch.randn(2, 3, 5, 6)
    by_hand = torch.cat([views[:, view] for view in range(3)], dim=-1)
    assert torch.allclose(fusion(views), fusion.project(torch.relu(fusion.reduce(by_hand))), atol=1e-6)
    assert not torch.allclose(fusion(views), fusion(views[:, [0, 2, 1]]), atol=1e-3)

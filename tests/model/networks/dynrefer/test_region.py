"""RoIAlign and the deformable sampling operator against plain loops and grid sampling; the alignment; the fusion."""

from itertools import product
from math import floor

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer import region
from dynrefer.model.networks.dynrefer.region import (
    DeformableAlignment,
    Sampling,
    ViewFusion,
    deformable_sampling,
    roi_align,
)

GEOMETRIES = {
    "as in DynRefer": Sampling(),
    "two groups": Sampling(groups=2),
    "larger offsets": Sampling(groups=2, offset_scale=2.0),
    "without centre": Sampling(remove_center=True),
    "dilated": Sampling(groups=1, dilation=2, pad=2),
    "strided": Sampling(groups=2, stride=2),
    "unpadded": Sampling(groups=1, pad=0),
    "five by five": Sampling(groups=1, kernel_size=5, pad=2),
}


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


@pytest.mark.parametrize("layout", ["channels first", "a transformer's tokens"])
def test_pooling_as_on_a_gpu_is_the_same(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    boxes = torch.tensor(list(BOXES.values()))
    features = torch.randn(len(boxes), 5, 6, 8)
    if layout != "channels first":
        tokens = torch.randn(len(boxes), 1 + 6 * 8, 5)  # a class token in front
        features = tokens[:, 1:].transpose(1, 2).unflatten(2, (6, 8))
    expected = roi_align(features, boxes, 1 / 7, 4, 2)
    monkeypatch.setattr(region, "_pool_by_channel", region._pool_by_pixel)
    found = roi_align(features, boxes, 1 / 7, 4, 2)
    assert torch.allclose(found, expected, atol=1e-6) and found.shape == expected.shape
    assert found.permute(0, 2, 3, 1).is_contiguous(), "not computed by pixel"


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


def sampled_by_loop(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> Tensor:
    """Point by point: x in the outer loop, y in the inner; offsets before modulations in each group."""
    n, height, width, channels = value.shape
    out = value.new_zeros(n, *offset_mask.shape[1:3], channels)
    side, depth = sampling.kernel_size, channels // sampling.groups
    half = sampling.dilation * (side - 1) // 2
    for b, row, column, g in product(range(n), *map(range, out.shape[1:3]), range(sampling.groups)):
        numbers = offset_mask[b, row, column, g * sampling.points * 3 :].tolist()
        own = slice(g * depth, (g + 1) * depth)
        point = 0
        for i, j in product(range(side), range(side)):
            if sampling.remove_center and i == j == side // 2:
                continue
            step_x, step_y = i * sampling.dilation - half, j * sampling.dilation - half
            x = column * sampling.stride - sampling.pad + half
            y = row * sampling.stride - sampling.pad + half
            x += (step_x + numbers[2 * point]) * sampling.offset_scale
            y += (step_y + numbers[2 * point + 1]) * sampling.offset_scale
            modulation = numbers[2 * sampling.points + point]
            point += 1
            if not (-1 < x < width and -1 < y < height):
                continue
            for near_x, near_y in product((floor(x), floor(x) + 1), (floor(y), floor(y) + 1)):
                if 0 <= near_x < width and 0 <= near_y < height:
                    weight = (1 - abs(x - near_x)) * (1 - abs(y - near_y)) * modulation
                    out[b, row, column, own] += weight * value[b, near_y, near_x, own]
    return out


@pytest.mark.parametrize("sampling", GEOMETRIES.values(), ids=GEOMETRIES)
def test_sampling_is_the_loop(sampling: Sampling) -> None:
    torch.manual_seed(0)
    value = torch.randn(2, 6, 7, 8)
    size = sampling.output_size(6), sampling.output_size(7)
    offset_mask = 2 * torch.randn(2, *size, sampling.channels)  # many points fall outside
    ours = deformable_sampling(value, offset_mask, sampling)
    assert torch.allclose(ours, sampled_by_loop(value, offset_mask, sampling), atol=1e-5)


def test_sampling_is_grid_sampling_of_shifted_maps() -> None:
    """One group, the same offset everywhere: a sum of nine bilinear shifts of the map."""
    torch.manual_seed(0)
    sampling, value = Sampling(groups=1), torch.randn(1, 6, 5, 3)
    numbers = torch.randn(sampling.channels)
    offsets, modulation = numbers[:18].view(9, 2), numbers[18:27]
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="ij")
    expected = torch.zeros(1, 3, 6, 5)
    for point, (i, j) in enumerate(product((-1, 0, 1), repeat=2)):
        x, y = columns + i + offsets[point, 0], rows + j + offsets[point, 1]
        grid = torch.stack((2 * x / 4 - 1, 2 * y / 5 - 1), dim=-1)[None]
        shifted = F.grid_sample(value.permute(0, 3, 1, 2), grid, padding_mode="zeros", align_corners=True)
        expected += modulation[point] * shifted
    ours = deformable_sampling(value, numbers.expand(1, 6, 5, -1), sampling)
    assert torch.allclose(ours.permute(0, 3, 1, 2), expected, atol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    sampling = Sampling(groups=2)
    value = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    # Away from whole pixels, where bilinear interpolation has a corner.
    offset_mask = (0.5 * torch.rand(1, 3, 4, sampling.channels) + 0.25).requires_grad_()
    ours = deformable_sampling(value, offset_mask, sampling)
    direction, grad_out = torch.randn_like(offset_mask), torch.randn(ours.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((ours * grad_out).sum(), offset_mask)
    step = 1e-2  # bilinear: exact between corners but for the rounding of float32
    with torch.no_grad():
        ahead = deformable_sampling(value, offset_mask + step * direction.sign() * 0.1, sampling)
        behind = deformable_sampling(value, offset_mask - step * direction.sign() * 0.1, sampling)
    slope = ((ahead - behind) * grad_out).sum() / (2 * step * 0.1)
    assert torch.allclose((gradient * direction.sign()).sum().double(), slope, rtol=1e-2)


def test_halves_of_the_offsets_see_one_map_each() -> None:
    """The depthwise convolution of the interleaved pair keeps target and reference apart (official behaviour)."""
    torch.manual_seed(0)
    align = DeformableAlignment(16, groups=4, residual=False)
    target, reference = torch.randn(1, 16, 5, 5), torch.randn(1, 16, 5, 5)
    pair = align.convolve(target, reference)
    other = align.convolve(target, torch.randn_like(reference))
    assert torch.equal(pair[:, :8], other[:, :8])
    assert not torch.allclose(pair[:, 8:], other[:, 8:])


def test_depthwise_is_the_grouped_convolution() -> None:
    torch.manual_seed(0)
    align = DeformableAlignment(16, groups=4, residual=False)
    target, reference = torch.randn(2, 16, 5, 6), torch.randn(2, 16, 5, 6)
    direction = torch.randn(2, 16, 5, 6)
    parameters = list(align.pair.parameters())
    ours, theirs = align.convolve(target, reference), align.pair(torch.cat((target, reference), dim=1))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    gradients = (torch.autograd.grad((each * direction).sum(), parameters) for each in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_residual_passes_the_target_through() -> None:
    torch.manual_seed(0)
    plain, residual = (DeformableAlignment(16, groups=4, residual=on) for on in (False, True))
    residual.load_state_dict(plain.state_dict())
    target, reference = torch.randn(2, 16, 5, 5), torch.randn(2, 16, 5, 5)
    assert torch.allclose(residual(target, reference), plain(target, reference) + target)
    assert torch.equal(residual(target, reference), target)  # a fresh module: modulation is zero, biases too

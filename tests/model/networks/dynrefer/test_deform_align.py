"""The deformable operator against a plain loop and against grid sampling, and the alignment around it."""

from itertools import product
from math import floor

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.deform_align import DeformableAlignment, Sampling, deformable_sampling

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

"""From view features to a region: RoIAlign, deformable alignment of the views with t = 0, and fusion into one map.

Source: paper, section 3.2 (cross-view alignment); sampling operator of the alignment: DCNv4, here in plain torch.

Shapes: N = maps, R = regions, V = views of a region, C = channels, H W = the input map, Ho Wo = the output map,
P = side of a pooled map, L = tokens of a map, G = groups, K = points of the kernel, D = channels of a group.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def roi_align(features: Tensor, boxes: Tensor, scale: float, size: int, samples: int) -> Tensor:
    """RoIAlign with aligned=False, one box per map -> (N, C, size, size).

    features: (N, C, H, W). boxes: (N, 4) float32, xyxy, view pixels. scale: feature pixels per view pixel.
    Bilinear interpolation and the mean over samples are separable, so a pooled map is two small matrix
    products A_y F A_x^T; equal to torchvision's operator up to the order of additions.
    aligned=False: the pooled grid is half a pixel off, as in the released weights.
    """
    x1, y1, x2, y2 = (boxes.float() * scale).unbind(1)
    rows = _bin_weights(y1, y2, features.shape[2], size, samples)  # (N, P, H)
    columns = _bin_weights(x1, x2, features.shape[3], size, samples)  # (N, P, W)
    pool = _pool_by_channel if features.device.type == "cpu" else _pool_by_pixel
    return pool(features.float(), rows, columns).to(features.dtype)


def _pool_by_channel(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, C, H, W), rows (N, P, H), columns (N, P, W) -> (N, C, P, P): small products, one per channel."""
    pooled = torch.matmul(rows[:, None], features)  # (N, C, P, W)
    return torch.matmul(pooled, columns[:, None].transpose(2, 3))


def _pool_by_pixel(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same, for a GPU: products as wide as all channels, on maps as a transformer leaves them, (N, H, W, C).

    By channel, torch would copy the weights for each channel, 277 MB for 64 regions of three views, transpose the maps
    into another 277 MB, and multiply 270,000 pairs of 16 x 16 numbers, twice.
    """
    maps = features.permute(0, 2, 3, 1)
    pooled = torch.matmul(rows, maps.flatten(2)).unflatten(2, maps.shape[2:])  # (N, P, W, C)
    return torch.matmul(columns[:, None], pooled).permute(0, 3, 1, 2)


def _bin_weights(start: Tensor, stop: Tensor, length: int, bins: int, samples: int) -> Tensor:
    """Pooling weights along one axis, (N, bins, length); a bin is the mean of `samples` linear interpolations.

    start, stop: (N,) box edges in feature pixels. The rules at the border are RoIAlign's: a sample outside of
    [-1, length] contributes nothing, the others are clamped to [0, length - 1].
    """
    extent = (stop - start).clamp(min=1.0)  # aligned=False: a box is at least one feature pixel wide
    step = extent / bins
    offsets = (torch.arange(samples, device=start.device, dtype=start.dtype) + 0.5) / samples
    grid = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None] + offsets  # (bins, samples)
    position = start[:, None, None] + grid * step[:, None, None]  # (N, bins, samples)
    inside = (position >= -1.0) & (position <= length)
    position = position.clamp(0.0, length - 1.0)
    low = position.floor()
    fraction = position - low
    columns = torch.arange(length, device=start.device, dtype=start.dtype)
    at_low = (columns == low[..., None]) * (1 - fraction)[..., None]
    at_high = (columns == (low + 1)[..., None]) * fraction[..., None]
    return ((at_low + at_high) * inside[..., None]).mean(dim=2)


@dataclass(frozen=True)
class Sampling:
    """Geometry of the deformable operator; the defaults are DynRefer's."""

    groups: int = 4
    kernel_size: int = 3
    stride: int = 1
    pad: int = 1
    dilation: int = 1
    offset_scale: float = 1.0
    remove_center: bool = False

    @property
    def points(self) -> int:
        """K: points per output pixel and group."""
        return self.kernel_size**2 - int(self.remove_center)

    @property
    def channels(self) -> int:
        """Width of the offset and modulation map: G * 3K, padded at its end to a multiple of 8."""
        return math.ceil(self.groups * self.points * 3 / 8) * 8

    def output_size(self, size: int) -> int:
        """Output pixels along one axis for `size` input pixels."""
        return (size + 2 * self.pad - self.dilation * (self.kernel_size - 1) - 1) // self.stride + 1


def sample_positions(offset_mask: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor, Tensor]:
    """x, y: (N, Ho, Wo, G, K) float32 in input pixels, and the raw modulation of the same shape.

    offset_mask: (N, Ho, Wo, channels). Per group: 2K offsets, interleaved (x, y), then K modulations. The points
    run with x in the outer loop, y in the inner.
    """
    n, height, width, _ = offset_mask.shape
    k, used = sampling.points, sampling.groups * sampling.points * 3
    parts = offset_mask[..., :used].float().view(n, height, width, sampling.groups, 3 * k)
    offsets = parts[..., : 2 * k].unflatten(-1, (k, 2))  # (..., K, 2): x, y
    device = offset_mask.device
    centre = sampling.dilation * (sampling.kernel_size - 1) // 2
    steps = torch.arange(sampling.kernel_size, device=device, dtype=torch.float32) * sampling.dilation - centre
    kernel = torch.cartesian_prod(steps, steps)  # (K, 2), x outer
    if sampling.remove_center:
        kernel = kernel[(kernel != 0).any(dim=1)]
    shift = (kernel + offsets) * sampling.offset_scale
    origin = centre - sampling.pad
    columns = torch.arange(width, device=device) * sampling.stride + origin
    rows = torch.arange(height, device=device) * sampling.stride + origin
    x = shift[..., 0] + columns.view(1, 1, width, 1, 1)
    y = shift[..., 1] + rows.view(1, height, 1, 1, 1)
    return x, y, parts[..., 2 * k :]


def deformable_sampling(value: Tensor, offset_mask: Tensor, sampling: Sampling) -> Tensor:
    """DCNv4 without a custom kernel: (N, H, W, C), (N, Ho, Wo, channels) -> (N, Ho, Wo, C).

    The bilinear weights of all points of an output pixel are gathered into one row over the input pixels, so the
    sampling is a matrix product (Ho*Wo x H*W) per map and group: fast on any device, and differentiable. It takes
    N*G*Ho*Wo*H*W weights, which suits maps of up to about 32 x 32.
    """
    n, height, width, channels = value.shape
    out_height, out_width = offset_mask.shape[1:3]
    x, y, modulation = sample_positions(offset_mask, sampling)
    # A point beyond (-1, size) touches no pixel, so the zero weight of every corner outside skips it as well.
    x_low, y_low = x.floor(), y.floor()
    weights = x.new_zeros(n, out_height, out_width, sampling.groups, height * width)
    for corner_x, near_x in ((x_low, 1 - (x - x_low)), (x_low + 1, x - x_low)):
        for corner_y, near_y in ((y_low, 1 - (y - y_low)), (y_low + 1, y - y_low)):
            inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
            pixel = (corner_y.clamp(0, height - 1) * width + corner_x.clamp(0, width - 1)).long()
            # A NaN position has no pixel: its weight propagates the NaN; an index out of bounds would abort on a GPU.
            pixel.clamp_(0, height * width - 1)
            weights.scatter_add_(-1, pixel, near_x * near_y * modulation * inside)
    # (N, Ho, Wo, G, HW) -> (N, G, HoWo, HW)
    weights = weights.flatten(1, 2).transpose(1, 2).to(value.dtype)
    grouped = value.view(n, height * width, sampling.groups, -1).transpose(1, 2)  # (N, G, HW, D)
    sampled = torch.matmul(weights, grouped)  # (N, G, HoWo, D)
    return sampled.transpose(1, 2).reshape(n, out_height, out_width, channels)


class DeformableAlignment(nn.Module):
    """Aligns the map of a view with the map of its t = 0 view.

    value = Linear(target); offsets and modulation = Linear(depthwise 3x3 convolution of the interleaved pair), so the
    first half of its outputs sees channels of the target only, the second half channels of the reference only.
    With `residual` the unaligned target is added to the output, so that an untrained module passes context through.
    """

    def __init__(self, width: int, groups: int, residual: bool) -> None:
        super().__init__()
        self.sampling = Sampling(groups=groups)
        self.residual = residual
        self.pair = nn.Conv2d(2 * width, width, kernel_size=3, padding=1, groups=width)
        self.offset_mask = nn.Linear(width, self.sampling.channels)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, target: Tensor, reference: Tensor) -> Tensor:
        """target, reference: (N, C, H, W) -> (N, C, H, W)."""
        offset_mask = self.offsets(target, reference)
        value = self.value(target.permute(0, 2, 3, 1))
        sampled: Tensor = self.output(deformable_sampling(value, offset_mask, self.sampling))
        aligned = sampled.permute(0, 3, 1, 2)
        return aligned + target if self.residual else aligned

    def offsets(self, target: Tensor, reference: Tensor) -> Tensor:
        """The offset and modulation map: (N, H, W, channels)."""
        offset_mask: Tensor = self.offset_mask(self.convolve(target, reference).permute(0, 2, 3, 1))
        return offset_mask

    def convolve(self, target: Tensor, reference: Tensor) -> Tensor:
        """The grouped convolution of the pair: (N, C, H, W) each -> (N, C, H, W).

        Two channels per group, computed as two depthwise convolutions and a sum: every device has depthwise kernels, on
        a CPU twice as fast as a grouped convolution. In bfloat16 the sum rounds once more.
        """
        pair, convolution = torch.cat((target, reference), dim=1), self.pair
        weight = convolution.weight.reshape(-1, 1, *convolution.kernel_size)
        single = F.conv2d(pair, weight, padding=convolution.padding, groups=len(weight))
        first, second = single.unflatten(1, (-1, 2)).unbind(2)
        assert convolution.bias is not None
        convolved: Tensor = first + second + convolution.bias.view(-1, 1, 1)
        return convolved


class ViewFusion(nn.Module):
    """The maps of the V views, concatenated over channels -> Linear(V*C -> C), ReLU, Linear(C -> C)."""

    def __init__(self, width: int, num_views: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(width * num_views, width)
        self.project = nn.Linear(width, width)

    def forward(self, views: Tensor) -> Tensor:
        """(R, V, L, C) -> (R, L, C)."""
        joined = views.transpose(1, 2).flatten(2)  # (R, L, V*C): channels of view 0 first
        fused: Tensor = self.project(torch.relu(self.reduce(joined)))
        return fused

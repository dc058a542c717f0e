"""RoIAlign on the feature maps of the views, and the fusion of the aligned maps into one.

Letters: N maps, R regions, V views, C channels, H W the feature map, P the pooled side.
"""

import torch
from torch import Tensor, nn


def _bin_weights(start: Tensor, stop: Tensor, length: int, bins: int, samples: int) -> Tensor:
    """Rows of the pooling along one axis: (N, bins, length); a bin is the mean of `samples` linear interpolations.

    start, stop: (N,) box edges in feature pixels. The rules at the border are RoIAlign's: a sample beyond
    [-1, length] counts nothing, one between the border and half a pixel outside is clamped.
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
    pooled = torch.matmul(rows[:, None], features.float())  # (N, C, P, W)
    return torch.matmul(pooled, columns[:, None].transpose(2, 3)).to(features.dtype)  # (N, C, P, P)


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

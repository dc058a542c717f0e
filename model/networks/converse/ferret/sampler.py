"""The spatial-aware visual sampler: a region of any shape -> one feature of the language model's width.

A stage replaces each kept point by what it and its neighbours are together:
    h(i, k) = norm(relu(W_a [W_d [f(k) - f(i); x(k) - x(i)]; f(i); x(i)]))        f'(i) = max over k of h(i, k)
with features f and coordinates x. What the last stage leaves is laid end to end and projected twice.
Source: section 3.2 of Ferret (arXiv 2310.07704).

One thing is ours: maps as wide as the language model would make the projection of all points as large as half a
billion weights, so samples are first reduced to `width` (Ferret's own maps have 1,024 channels).

Shapes: N = points of a region, M = points that a stage keeps, K = neighbours, C = width, D = channels of the map and
width of the language model.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.converse.ferret.referring_map import at_points
from dynrefer.model.networks.converse.ferret.region_points import RegionPoints


class RegionSampler(nn.Module):
    """kept: M of each stage. language_width: D. width: C."""

    def __init__(self, language_width: int, width: int, kept: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.Linear(language_width, width, bias=False)
        self.stages = nn.ModuleList(SamplerStage(width) for _ in kept)
        self.flatten = nn.Linear(width * kept[-1], width)
        self.project = nn.Linear(width, language_width)

    def forward(self, referring: Tensor, region: RegionPoints) -> Tensor:
        """A referring map (D, H, W) and a region's points -> its feature (D,), in the dtype of the weights."""
        points = torch.from_numpy(region.points).to(referring.device, torch.float32)
        features = self.reduce(at_points(referring, points).to(self.reduce.weight.dtype))  # (N, C)
        for module, stage in zip(self.stages, region.stages, strict=True):
            centres = torch.from_numpy(stage.centres).to(points.device)
            neighbours = torch.from_numpy(stage.neighbours).to(points.device)
            features = module(features, points, centres, neighbours)
            points = points[centres]
        found: Tensor = self.project(self.flatten(features.flatten()[None]))[0]
        return found


class SamplerStage(nn.Module):
    """Gathers the neighbours of each kept point, and pools them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.difference = nn.Linear(width + 2, width + 2)
        self.gather = nn.Linear(2 * (width + 2), width)
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, points: Tensor, centres: Tensor, neighbours: Tensor) -> Tensor:
        """features (N, C), points (N, 2), centres (M,) int64, neighbours (M, K) int64 -> features (M, C)."""
        placed = torch.cat((features, points.to(features.dtype)), dim=1)  # (N, C + 2)
        anchor = placed[centres, None]  # (M, 1, C + 2)
        difference = self.difference(placed[neighbours] - anchor)  # (M, K, C + 2)
        both = torch.cat((difference, anchor.expand_as(difference)), dim=2)
        pooled: Tensor = self.norm(F.relu(self.gather(both))).amax(dim=1)
        return pooled

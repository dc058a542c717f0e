"""Clicks as a person would set them, on batches: first in the middle of the object, then in the middle of the largest
mistake. Source: the evaluation of interactive segmentation (Xu et al., 2016; RITM, Sofiiuk et al., 2021).

Shapes: B = windows, S = side of a window, K = clicks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MOST_DEPTH = 16  # of pairs of pixels from the edge; deeper places count alike


def depth(mask: Tensor) -> Tensor:
    """How deep a place lies in the mask, in pairs of pixels, at most `MOST_DEPTH`: (B, S, S) bool -> float32.

    S is even. What lies beyond the window does not count as an edge.
    """
    left = functional.max_pool2d(mask.float()[:, None], 2)
    total = torch.zeros_like(left)
    for _ in range(MOST_DEPTH):
        total += left
        left = -functional.max_pool2d(-left, 3, stride=1, padding=1)
        if not left.any():
            break
    return functional.interpolate(total, scale_factor=2)[:, 0] * mask


def middle(mask: Tensor, generator: torch.Generator, spread: Tensor) -> Tensor:
    """A place (y, x) inside each mask, (B, 2) int64: the deepest for spread 0, for 1 any. spread: (B,) 0 to 1."""
    deep = depth(mask)
    most = deep.amax(dim=(1, 2), keepdim=True)
    noise = torch.rand(deep.shape, generator=generator)
    ranked = torch.where(mask, torch.minimum(deep, most * (1 - spread[:, None, None])) + noise, -1.0)
    at = ranked.flatten(1).argmax(dim=1)
    return torch.stack([at // mask.shape[2], at % mask.shape[2]], dim=1)


def next_click(found: Tensor, truth: Tensor, generator: torch.Generator, spread: Tensor) -> tuple[Tensor, Tensor]:
    """The middle of the deepest mistake, (B, 2) int64 (y, x), and whether it belongs to the object, (B,) bool."""
    missed, beyond = depth(truth & ~found), depth(found & ~truth)
    positive = missed.amax(dim=(1, 2)) >= beyond.amax(dim=(1, 2))
    mistake = torch.where(positive[:, None, None], truth & ~found, found & ~truth)
    none = ~mistake.flatten(1).any(dim=1)
    mistake[none] = truth[none]
    return middle(mistake, generator, spread), positive | none

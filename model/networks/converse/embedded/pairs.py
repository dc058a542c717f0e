"""Numbers of boxes, by themselves and in pairs, as the converser's network reads them.

Boxes are in units of the image's longest side, so that a step across counts as much as one down.
Shapes: B = conversations, T and N = boxes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GEOMETRY = 16  # numbers of two boxes
SENSES = 4  # in which two places look alike
PAIR = GEOMETRY + 8 + SENSES  # with those of words and objects
_LEAST = 1e-3


def place_numbers(boxes: Tensor, frames: Tensor) -> Tensor:
    """Where boxes lie and how large they are, (..., 52), about -3 to 3. boxes: (..., 4). frames: (..., 2), width and
    height of the image in the boxes' units."""
    own = boxes / frames.repeat_interleave(2, dim=-1)[..., (0, 2, 1, 3)].clamp(min=_LEAST)
    x1, y1, x2, y2 = own.unbind(-1)
    wide, high = (x2 - x1).clamp(min=_LEAST), (y2 - y1).clamp(min=_LEAST)
    middle = torch.stack(((x1 + x2) / 2, (y1 + y2) / 2), dim=-1)
    logs = torch.stack((wide.log(), high.log(), torch.maximum(wide, high).log(), (wide * high).log()), dim=-1)
    plain = torch.cat((own, middle, torch.stack((wide, high), dim=-1)), dim=-1)
    waves = torch.cat((own, middle), dim=-1)[..., None] * (math.pi * 2.0 ** torch.arange(3))
    waved = torch.cat((waves.sin(), waves.cos()), dim=-1).flatten(-2)
    scaled = torch.cat((4 * plain - 2, logs / 2 + 1, frames, boxes[..., 2:] - boxes[..., :2]), dim=-1)
    return torch.cat((scaled, waved), dim=-1)


def pair_numbers(boxes: Tensor, others: Tensor) -> Tensor:
    """How each box (B, T, 4) lies to each other one (B, N, 4): (B, T, N, GEOMETRY), about -3 to 3."""
    a, b = boxes[:, :, None], others[:, None]
    a_side, b_side = (a[..., 2:] - a[..., :2]).clamp(min=_LEAST), (b[..., 2:] - b[..., :2]).clamp(min=_LEAST)
    step = (b[..., :2] + b[..., 2:] - a[..., :2] - a[..., 2:]) / 2
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    a_area, b_area = a_side.prod(-1), b_side.prod(-1)
    overlap = shared / (a_area + b_area - shared)
    inside = shared / torch.minimum(a_area, b_area)
    far = step.abs().sum(-1, keepdim=True) + 0.02
    gaps = torch.cat((b[..., :2] - a[..., 2:], a[..., :2] - b[..., 2:]), dim=-1)
    larger = ((b_area / a_area).log() / 2).clamp(-3, 3)
    longer = (b_side.amax(-1) / a_side.amax(-1)).log().clamp(-3, 3)
    single = torch.stack((larger, longer, overlap * 2, inside * 2), dim=-1)
    edges = 4 * (b - a)
    parts = (3 * step, 2 * step / far, 3 * gaps, single, edges)
    return torch.cat([each.expand(*a.shape[:1], a.shape[1], b.shape[2], each.shape[-1]) for each in parts], dim=-1)

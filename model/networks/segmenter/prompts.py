"""Prompts painted into a window's channels. Shapes: B = windows, S = side of a window in pixels."""

import torch
from torch import Tensor

RADIUS = 3.0  # pixels of the window, of a click's disk


def paint_clicks(channels: Tensor, at: Tensor, positive: Tensor, wanted: Tensor) -> None:
    """Add one click to each window.

    channels: (B, 2, S, S) float32, positive disks and negative; changed. at: (B, 2) int64, (y, x) pixels of the
    window. positive, wanted: (B,) bool; a window that is not wanted gets none.
    """
    side = channels.shape[-1]
    line = torch.arange(side)
    near_y = (line[None, :] - at[:, :1]) ** 2  # (B, S)
    near_x = (line[None, :] - at[:, 1:]) ** 2
    disks = (near_y[:, :, None] + near_x[:, None, :]) <= RADIUS**2
    disks &= wanted[:, None, None]
    channels[:, 0] += disks & positive[:, None, None]
    channels[:, 1] += disks & ~positive[:, None, None]
    channels.clamp_(max=1)


def paint_box(box: Tensor, side: int) -> Tensor:
    """Boxes as filled rectangles, (B, 1, S, S) float32.

    box: (B, 4) float32, xyxy as fractions of the window; NaN where there is none, which gives zeros.
    """
    line = (torch.arange(side) + 0.5) / side
    across = (line >= box[:, 0:1]) & (line <= box[:, 2:3])  # comparisons with NaN are false
    down = (line >= box[:, 1:2]) & (line <= box[:, 3:4])
    return (down[:, :, None] & across[:, None, :]).float()[:, None]

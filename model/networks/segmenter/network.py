"""The mask head: a small U-Net from a window of the image and a prompt to the mask of the object that is meant.

A prompt is painted into channels beside the colours: clicks as disks, a box as a filled rectangle, and what an earlier
pass found as probabilities. So the same weights serve clicks and boxes, and a second look at a closer window refines
the first. Source of the input's form: RITM (Sofiiuk et al., 2021), disks and the previous mask.

Shapes: B = windows, S = side of a window in pixels, a multiple of 16.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 128  # pixels of a window
PROMPT_CHANNELS = 4  # positive disks, negative disks, box, earlier probabilities
_MEAN, _SCALE = 127.5, 63.75


@dataclass(frozen=True)
class MaskHeadConfig:
    """widths: channels at a half, a quarter, an eighth and a sixteenth of the window's side."""

    widths: tuple[int, int, int, int] = (16, 32, 64, 96)


class WindowLogits(NamedTuple):
    """mask: (B, S, S), above 0 where the object is. quality: (B,), the logit of the mask's expected IoU."""

    mask: Tensor
    quality: Tensor


class _Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(inner)))


class _Narrower(nn.Module):
    """A change of width, to half the side or to the same."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        size = 3 if stride == 2 else 1
        self.change = nn.Conv2d(width, out, size, stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        return functional.relu(self.norm(self.change(x)))


class MaskHead(nn.Module):
    """Windows and prompts -> masks."""

    def __init__(self, config: MaskHeadConfig | None = None) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = (config or MaskHeadConfig()).widths
        self.stem = nn.Sequential(_Narrower(3 + PROMPT_CHANNELS, half, 2), _Block(half))
        self.down4 = nn.Sequential(_Narrower(half, quarter, 2), _Block(quarter))
        self.down8 = nn.Sequential(_Narrower(quarter, eighth, 2), _Block(eighth))
        self.down16 = nn.Sequential(_Narrower(eighth, sixteenth, 2), _Block(sixteenth), _Block(sixteenth))
        # What the window shows as a whole reaches every place, beyond what the convolutions see.
        self.whole = nn.Linear(sixteenth, sixteenth)
        self.to8, self.up8 = _Narrower(sixteenth, eighth, 1), _Block(eighth)
        self.to4, self.up4 = _Narrower(eighth, quarter, 1), _Block(quarter)
        self.to2, self.up2 = _Narrower(quarter, half, 1), _Block(half)
        self.mask = nn.Conv2d(half, 4, 3, padding=1)
        self.quality = nn.Linear(sixteenth, 1)

    def forward(self, pixels: Tensor, prompt: Tensor) -> WindowLogits:
        """pixels: (B, 3, S, S) uint8 or float, 0 to 255, RGB. prompt: (B, 4, S, S) float32, 0 to 1."""
        x = torch.cat([(pixels.float() - _MEAN) / _SCALE, prompt], dim=1)
        half = self.stem(x)  # (B, 16, S/2, S/2)
        quarter = self.down4(half)  # (B, 32, S/4, S/4)
        eighth = self.down8(quarter)  # (B, 64, S/8, S/8)
        deep = self.down16(eighth)  # (B, 96, S/16, S/16)
        whole = self.whole(deep.mean(dim=(2, 3)))
        deep = functional.relu(deep + whole[:, :, None, None])
        eighth = self.up8(eighth + _doubled(self.to8(deep)))
        quarter = self.up4(quarter + _doubled(self.to4(eighth)))
        half = self.up2(half + _doubled(self.to2(quarter)))
        mask = functional.pixel_shuffle(self.mask(half), 2)[:, 0]
        return WindowLogits(mask, self.quality(functional.relu(whole))[:, 0])


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

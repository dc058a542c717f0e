"""The segmenter that comes with the embedded model: looks at a region's windows, then closer at what it found.

The first looks see the whole image and its middle around the points; the one that promises the best mask counts. The
next looks see a window close around that mask, with the mask as a hint, as RITM's "zoom-in" does. It runs on the CPU,
one window at a time: so a region's mask does not depend on what else is in the batch.

Shapes: S = side of a window that the network sees, in pixels (`SIDE`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dynrefer.model.errors import raise_if_stopped
from dynrefer.model.networks.convolutional_weights import folded, load_weights
from dynrefer.model.networks.segmenter.network import SIDE, MaskHead
from dynrefer.model.networks.segmenter.prompts import paint_box, paint_clicks
from dynrefer.model.points import PointPrompt
from dynrefer.model.segmentation import (
    ImageWindow,
    PointedRegion,
    SegmentationSpec,
    WindowMask,
    window_around,
)
from dynrefer.model.types import Corners

WEIGHTS = "segmenter.safetensors"
SPEC = SegmentationSpec(side=2 * SIDE, windows=4)  # closer looks are cut from these windows, at up to twice the detail
CLOSER_LOOKS = 2
MARGIN = 1.4  # a closer window's sides, of the mask's
NEAR = 0.85  # a closer window that overlaps the last one so much (intersection over union) shows nothing new


class _Look(NamedTuple):
    """What the network says of a window: (S, S) logits, and the logit of their expected IoU."""

    corners: Corners
    logits: Tensor
    quality: float


class SmallSegmenter:
    """A `Segmenter`. head: the network, in evaluation mode, on the CPU."""

    def __init__(self, head: MaskHead) -> None:
        self._head = head
        self.spec = SPEC

    @classmethod
    def load(cls, directory: Path) -> "SmallSegmenter":
        """Read `segmenter.safetensors`. Raises `WeightsError`, `ModelNotFoundError`."""
        return cls(folded(load_head(directory)))

    @torch.inference_mode()
    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> list[WindowMask]:
        """See `Segmenter`."""
        found = []
        for region in regions:
            raise_if_stopped(should_stop)
            found.append(self._find(region))
        return found

    def _find(self, region: PointedRegion) -> WindowMask:
        best = self._first_look(region)
        for _ in range(CLOSER_LOOKS):
            corners = _closer(best, region)
            if _overlap(corners, best.corners) > NEAR:
                break
            best = self._look(closest_pixels(region.windows, corners), corners, region, best)
        logits = kept_parts(best.logits, _places(region.points, best.corners))
        return WindowMask(best.corners, logits.numpy().astype(np.float16))

    def _first_look(self, region: PointedRegion) -> _Look:
        """Around a box, which says where the object is; of points, the most promising window."""
        if region.box is not None:
            corners = _around(region, region.box)
            return self._look(closest_pixels(region.windows, corners), corners, region, None)
        looks = [self._look(window.pixels, window.corners, region, None) for window in region.windows]
        return max(looks, key=lambda look: look.quality)

    def _look(self, pixels: NDArray[np.uint8], corners: Corners, region: PointedRegion, earlier: _Look | None) -> _Look:
        """pixels: (h, w, 3) uint8 of the window, of any size. earlier: a look at another window of the image."""
        if pixels.shape[0] != SIDE:
            pixels = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        prompt = torch.zeros(1, 4, SIDE, SIDE)
        for (y, x), positive in _places(region.points, corners):
            at = torch.tensor([[y, x]])
            paint_clicks(prompt[:, :2], at, torch.tensor([positive]), torch.tensor([True]))
        if region.box is not None:
            prompt[:, 2:3] = paint_box(torch.tensor([_fractions(region.box, corners)]), SIDE)
        if earlier is not None:
            prompt[0, 3] = carried_over(earlier.logits.sigmoid(), earlier.corners, corners)
        found = self._head(torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None], prompt)
        return _Look(corners, found.mask[0], float(found.quality[0]))


def load_head(directory: Path) -> MaskHead:
    """The network of a directory. Raises `WeightsError`, `ModelNotFoundError`."""
    return load_weights(MaskHead(), directory / WEIGHTS, "segmenter")


def _places(points: Sequence[PointPrompt], corners: Corners) -> list[tuple[tuple[int, int], bool]]:
    """The points inside a window, ((y, x), positive), in pixels of (S, S)."""
    x1, y1, x2, y2 = corners
    found = []
    for point in points:
        x, y = (point.x - x1) / (x2 - x1) * SIDE, (point.y - y1) / (y2 - y1) * SIDE
        if 0 <= x <= SIDE and 0 <= y <= SIDE:
            found.append(((min(int(y), SIDE - 1), min(int(x), SIDE - 1)), point.positive))
    return found


def _fractions(box: Corners, corners: Corners) -> Corners:
    """A box as fractions of a window."""
    (x1, y1, x2, y2), (left, top, right, bottom) = box, corners
    across, down = right - left, bottom - top
    return (x1 - left) / across, (y1 - top) / down, (x2 - left) / across, (y2 - top) / down


def _closer(look: _Look, region: PointedRegion) -> Corners:
    """A window around the mask that a look found, and what was given of the region."""
    rows, columns = (torch.nonzero((look.logits > 0).any(dim=axis))[:, 0] for axis in (1, 0))
    if not len(rows):
        return _around(region, region.box)
    x1, y1, x2, y2 = look.corners
    step_x, step_y = (x2 - x1) / SIDE, (y2 - y1) / SIDE
    first, last = (float(columns[0]), float(rows[0])), (float(columns[-1] + 1), float(rows[-1] + 1))
    found = x1 + step_x * first[0], y1 + step_y * first[1], x1 + step_x * last[0], y1 + step_y * last[1]
    return _around(region, found)


def _around(region: PointedRegion, found: Corners | None) -> Corners:
    """A window around a box that was found, and the box or the positive points that were given."""
    xs = [point.x for point in region.points if point.positive]
    ys = [point.y for point in region.points if point.positive]
    for box in (region.box, found):
        if box is not None:
            xs, ys = [*xs, *box[0::2]], [*ys, *box[1::2]]
    across, down = MARGIN * (max(xs) - min(xs)), MARGIN * (max(ys) - min(ys))
    # A window that is much longer than wide would show a distorted object.
    across, down = max(across, down / 2), max(down, across / 2)
    return window_around((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, across, down, region.size)


def closest_pixels(windows: Sequence[ImageWindow], corners: Corners) -> NDArray[np.uint8]:
    """The pixels of a window, (S, S, 3) uint8, from the closest of the windows given that holds it all."""
    x1, y1, x2, y2 = corners
    holding = windows[0]
    for window in windows[1:]:
        left, top, right, bottom = window.corners
        if left <= x1 and top <= y1 and x2 <= right and y2 <= bottom:
            holding = window
    left, top, right, bottom = holding.corners
    side = holding.pixels.shape[0]
    scale_x, scale_y = side / (right - left), side / (bottom - top)
    box = (
        max(0.0, (x1 - left) * scale_x),
        max(0.0, (y1 - top) * scale_y),
        min(float(side), (x2 - left) * scale_x),
        min(float(side), (y2 - top) * scale_y),
    )
    return np.asarray(Image.fromarray(holding.pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def carried_over(values: Tensor, of: Corners, to: Corners) -> Tensor:
    """What (S, S) values over one window are over another, bilinearly; 0 outside the first."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = of, to
    theta = torch.zeros(1, 2, 3)
    theta[0, 0, 0], theta[0, 1, 1] = (bx2 - bx1) / (ax2 - ax1), (by2 - by1) / (ay2 - ay1)
    theta[0, 0, 2] = (bx1 + bx2 - ax1 - ax2) / (ax2 - ax1)
    theta[0, 1, 2] = (by1 + by2 - ay1 - ay2) / (ay2 - ay1)
    grid = nn.functional.affine_grid(theta, [1, 1, *values.shape], align_corners=False)
    return nn.functional.grid_sample(values[None, None], grid, align_corners=False)[0, 0]


def kept_parts(logits: Tensor, places: Sequence[tuple[tuple[int, int], bool]]) -> Tensor:
    """The logits without the parts of the mask that no positive click lies in, (S, S); all of them where none does."""
    mask = logits > 0
    reached = torch.zeros_like(mask)
    for (y, x), positive in places:
        if positive:
            reached[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
    reached &= mask
    if not reached.any():
        return logits
    grown, size = reached.float()[None, None], -1
    while size != (size := int(grown.sum())):
        grown = nn.functional.max_pool2d(grown, 3, stride=1, padding=1) * mask
    return torch.where(mask & (grown[0, 0] == 0), -logits.abs().clamp(min=1.0), logits)


def _overlap(one: Corners, two: Corners) -> float:
    """Intersection over union of two windows."""
    across = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    down = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (one, two))
    return across * down / (areas - across * down)

"""A closer look at what was found: the describer's own network names it, seeing the region alone (t = 0).

One view instead of the several that a description has, and no other output than categories, so that it costs a third of
describing. Shapes: N = boxes, V = views of a region, S = side of a view in pixels, C = categories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import whole_pixels
from dynrefer.model.tasks.categories import CategoriesTask

if TYPE_CHECKING:
    from dynrefer.model.loading import LoadedModel

Floats = NDArray[np.float32]


class CloserLook:
    """loaded: the describer. For the device's thread."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._task = loaded, CategoriesTask()

    def probabilities(self, image: NDArray[np.uint8], boxes: Floats) -> Floats:
        """What is in each box, (N, C) float32. image: (h, w, 3) uint8 RGB. boxes: (N, 4) xyxy, its pixels.

        A box's numbers do not depend on the others, where the describer is batch-invariant.
        """
        config = self._loaded.network.config
        if not len(boxes):
            return np.empty((0, len(self._loaded.vocabulary.categories)), dtype=np.float32)
        cut = [_cut(image, box, config.view_size) for box in boxes]
        views = torch.from_numpy(np.stack([view for view, _ in cut]))
        inside = torch.from_numpy(np.stack([box for _, box in cut])).to(self._loaded.device)
        inference = self._loaded.inference
        with torch.inference_mode():
            features = inference.encode(views)
            index = torch.arange(len(boxes), device=self._loaded.device).repeat_interleave(config.num_views)
            repeated = inside[:, None].expand(-1, config.num_views, -1).contiguous()
            logits = inference.score_categories(inference.represent(features.take(index), repeated))
        rows = logits.float().cpu().numpy()
        return np.stack([self._task.probabilities(self._loaded, row) for row in rows])


def _cut(image: NDArray[np.uint8], box: Floats, side: int) -> tuple[NDArray[np.uint8], Floats]:
    """The view at t = 0, (3, S, S) uint8, and the box in it, (4,) float32."""
    x1, y1, x2, y2 = (float(value) for value in box)
    height, width = image.shape[:2]
    left, top, right, bottom = whole_pixels((x1, y1, x2, y2), (width, height))
    part = Image.fromarray(image[top:bottom, left:right]).resize((side, side), Image.Resampling.BICUBIC)
    scale = np.array([side / (right - left), side / (bottom - top)] * 2, dtype=np.float32)
    inside = (np.array([x1, y1, x2, y2], np.float32) - np.array([left, top] * 2, np.float32)) * scale
    return np.ascontiguousarray(np.asarray(part).transpose(2, 0, 1)), inside

"""What the evidence looks at of a region, cut from the original image where images are prepared. No torch, no ONNX
Runtime; arguments and results pickle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import cut_crop
from dynrefer.model.evidence.windows import cut_windows
from dynrefer.model.types import Corners


@dataclass(frozen=True, slots=True)
class EvidenceSpec:
    """How the crops of a region are cut. margin: around the tower's crop, a fraction of the box's sides."""

    margin: float


@dataclass(frozen=True, slots=True)
class EvidenceCrops:
    """The crops of one region.

    crop: (3, 224, 224) uint8 RGB, the region squeezed to a square, for the tower. windows: (W, 3, S, S) uint8 RGB, the
    region with its surroundings, for the detector; boxes: (W, 4) float32, the region in each, xyxy pixels.
    """

    crop: NDArray[np.uint8]
    windows: NDArray[np.uint8]
    boxes: NDArray[np.float32]


def cut_evidence(image: NDArray[np.uint8] | Image.Image, box: Corners, spec: EvidenceSpec) -> EvidenceCrops:
    """image: upright, (H, W, 3) uint8 or a Pillow image of mode RGB. box: xyxy pixels, clipped to the image."""
    return EvidenceCrops(cut_crop(image, box, margin=spec.margin), *cut_windows(image, box))

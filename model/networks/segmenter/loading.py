"""Which segmenter serves points: the one of the model, a SAM 2 of a local directory, or none."""

from pathlib import Path

import torch

from dynrefer.model.networks.segmenter.small import WEIGHTS, SmallSegmenter
from dynrefer.model.segmentation import Segmenter

FOLDER = "segmenter"  # of a model directory


def load_segmenter(name: str, model: Path, device: torch.device) -> Segmenter | None:
    """name: "embedded" (that of the model directory, where it has one), "none", or a directory with a SAM 2.

    device: of a SAM 2; the embedded one computes on the CPU. Raises `ModelNotFoundError`, `ConfigError`,
    `WeightsError`, `DeviceMemoryError`.
    """
    if name == "none":
        return None
    if name == "embedded":
        folder = model / FOLDER
        return SmallSegmenter.load(folder) if (folder / WEIGHTS).exists() else None
    from dynrefer.model.networks.segmenter.sam2 import Sam2Segmenter  # transformers' classes take a while to import

    return Sam2Segmenter.load(Path(name), device)

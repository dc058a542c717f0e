"""Contrast of regions and words across the images of a batch, as GLIPv2 has it (Zhang et al., 2022, section 3.1).

A region is held against the words of every caption of the batch, not of its own image alone. Positives are propagated:
a region is a positive of its name wherever a caption says it. It is of one process: the finder is trained by one.

Shapes: M = regions, W = words of all captions, T = trained names, C = channels of an embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynrefer.workbench.training.finder.samples import UNNAMED


def caption_words(labels: Tensor, image: Tensor) -> Tensor:
    """The words of the batch's captions, (W,) int64 labels: an image's caption says each of its names once.

    labels: (M,) int64, `UNNAMED` where nothing is said. image: (M,) int64.
    """
    said = torch.stack([image, labels], dim=1)[labels != UNNAMED]
    words: Tensor = torch.unique(said, dim=0)[:, 1]
    return words


def propagated_targets(labels: Tensor, words: Tensor) -> Tensor:
    """Which words name which regions, in whatever image either is: (M, W) bool. labels: (M,), words: (W,) int64."""
    return (labels[:, None] == words[None]) & (labels != UNNAMED)[:, None]


def cross_image_contrast(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of two cross-entropies: regions over words and words over regions; several positives share the target.

    logits: (M, W) float32, scaled similarities. targets: (M, W) bool. Rows and columns without a positive do not count;
    without any, the loss is 0.
    """
    return (_cross_entropy(logits, targets) + _cross_entropy(logits.T, targets.T)) / 2


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    known = targets.any(dim=1)
    if not known.any():
        return logits.sum() * 0
    wanted = targets[known].float()
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    return -(wanted * logits[known].log_softmax(dim=1)).sum(dim=1).mean()

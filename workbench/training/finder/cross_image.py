"""Contrast across the images of a batch, as GLIPv2 has it: every region against the words of every image.

Positives are propagated: a region whose label is a word of another image's caption is a positive of that word too.
Where training is distributed, a batch is that of one process. Source: GLIPv2 (Zhang et al., 2022), section 3.2.
Shapes: P = regions of all images, T = names, W = words of the batch, C = channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_image_contrast(embeddings: Tensor, labels: Tensor, vectors: Tensor, scale: Tensor) -> Tensor:
    """The mean of both directions: region to words, and word to regions.

    embeddings: (P, C) and vectors: (T, C), of length 1. labels: (P,) int64, places among the T names. scale: what
    cosines are multiplied with. The words are the names that any image of the batch shows; 0 without regions.
    """
    words = labels.unique()
    if not len(words):
        return embeddings.sum() * 0
    logits = scale * embeddings @ vectors[words].T  # (P, W)
    positive = labels[:, None] == words[None]
    to_words = functional.cross_entropy(logits, positive.float().argmax(dim=1))
    # A word has several positives: the probability of any of them counts.
    rightly = logits.masked_fill(~positive, -torch.inf).logsumexp(dim=0)
    to_regions = (logits.logsumexp(dim=0) - rightly).mean()
    return (to_words + to_regions) / 2

"""The losses of the finder: objectness, boxes (L1 and GIoU), names by contrast with their texts, masks, words.

Sources: quality focal loss (Li et al., 2020), GIoU (Rezatofighi et al., 2019), region-text contrast of DetCLIPv3.
Shapes: P = places that answer for an object, M = objects, T = trained names, C = channels of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dynrefer.model.networks.finder.network import FinderMaps, FinderNetwork, mask_logits
from dynrefer.workbench.training.finder.assignment import Assignment, assign, middle_places
from dynrefer.workbench.training.finder.cross_image import caption_words, cross_image_contrast, propagated_targets
from dynrefer.workbench.training.finder.masked_words import MaskedWords
from dynrefer.workbench.training.finder.samples import MASK_STRIDE, UNNAMED, FinderBatch

_SMOOTHING = 0.05  # of the right name's probability goes to the others


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts; 0 switches it off.

    contrast: of each region with all trained names. cross_image: with the words of the batch's captions. The last two
    are GLIPv2's; the finder that ships was trained without them.
    """

    objectness: float = 1.0
    l1: float = 1.0
    giou: float = 2.0
    contrast: float = 1.0
    mask: float = 1.0
    cross_image: float = 0.0
    masked_words: float = 0.0


def finder_losses(
    network: FinderNetwork,
    maps: FinderMaps,
    batch: FinderBatch,
    vectors: Tensor,
    weights: LossWeights,
    words: MaskedWords | None = None,
    rng: np.random.Generator | None = None,
) -> dict[str, Tensor]:
    """Each loss, weighted. vectors: (T, C) of the trained names. words, rng: needed where `masked_words` counts."""
    where = assign(batch.boxes, batch.image, *maps.objectness.shape[1:])
    truth = batch.boxes[where.object]
    boxes = maps.boxes[where.image, where.row, where.column]
    overlap, generalised = overlaps(boxes, truth)
    found = {}
    if weights.objectness:
        found["objectness"] = weights.objectness * _objectness(maps.objectness, where, overlap.detach())
    sides = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
    if weights.l1:
        found["l1"] = weights.l1 * _mean(
            functional.smooth_l1_loss(boxes / sides, truth / sides, beta=0.1, reduction="none")
        )
    if weights.giou:
        found["giou"] = weights.giou * _mean(1 - generalised)
    if weights.contrast:
        labels = batch.labels[where.object]
        named = labels != UNNAMED
        logits = network.name_logits(maps.embeddings[where.image, where.row, where.column][named], vectors)
        found["contrast"] = weights.contrast * _mean(
            functional.cross_entropy(logits, labels[named], label_smoothing=_SMOOTHING, reduction="none")
        )
    if weights.mask:
        found["mask"] = weights.mask * _masks(maps, where, batch)
    if weights.cross_image or weights.masked_words:
        objects, place = middle_places(where)
        regions = maps.embeddings[where.image[place], where.row[place], where.column[place]]
    if weights.cross_image:
        said = caption_words(batch.labels, batch.image)
        logits = network.name_logits(regions, vectors[said])
        targets = propagated_targets(batch.labels[objects], said)
        found["cross_image"] = weights.cross_image * cross_image_contrast(logits, targets)
    if weights.masked_words:
        assert words is not None and rng is not None
        found["masked_words"] = weights.masked_words * words(batch.captions, regions, batch.image[objects], rng)
    return found


def overlaps(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one, of (P, 4) with (P, 4) xyxy: (P,) each."""
    low, high = torch.maximum(boxes[:, :2], truth[:, :2]), torch.minimum(boxes[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = sum((each[:, 2:] - each[:, :2]).clamp(min=0).prod(-1) for each in (boxes, truth))
    union = areas - shared
    iou = shared / union.clamp(min=1e-6)
    hull = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    around = hull.prod(-1).clamp(min=1e-6)
    return iou, iou - (around - union) / around


def _mean(values: Tensor) -> Tensor:
    """0 where there are none: a batch without objects, or without a trained name, teaches only where nothing is."""
    return values.sum() / max(1, values.numel())


def _objectness(logits: Tensor, where: Assignment, overlap: Tensor) -> Tensor:
    """Quality focal loss: at the places that answer for an object the overlap of their box is to be said, else 0."""
    target = torch.zeros_like(logits)
    target[where.image, where.row, where.column] = overlap.clamp(0, 1)
    weight = (logits.sigmoid() - target).abs().square()
    losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (weight.detach() * losses).sum() / max(1, len(overlap)) * 4


def _masks(maps: FinderMaps, where: Assignment, batch: FinderBatch) -> Tensor:
    """Pixel-wise and Dice loss inside each object's box, by the place nearest to its middle."""
    losses = []
    every, middles = middle_places(where)
    for index, prototypes in enumerate(maps.prototypes):
        own = where.image[middles] == index
        objects, place = every[own], middles[own]
        shown = torch.isin(objects, batch.owner[index].unique())  # not hidden, and its mask is known
        objects, place = objects[shown], place[shown]
        if not len(objects):
            continue
        logits = mask_logits(maps.coefficients[where.image[place], where.row[place], where.column[place]], prototypes)
        truth = (batch.owner[index][None] == objects[:, None, None]).float()
        inside = _inside(batch.boxes[objects], *logits.shape[1:])
        pixels = functional.binary_cross_entropy_with_logits(logits, truth, weight=inside, reduction="none")
        likely = logits.sigmoid() * inside
        shared, total = (likely * truth).sum((1, 2)), (likely + truth * inside).sum((1, 2))
        losses.append(pixels.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1) + 1 - (2 * shared + 1) / (total + 1))
    return torch.cat(losses).mean() if losses else maps.prototypes.sum() * 0


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Which places of the masks lie in boxes (M, 4), a little widened: (M, height, width) float32."""
    x = (torch.arange(width) + 0.5) * MASK_STRIDE
    y = (torch.arange(height) + 0.5) * MASK_STRIDE
    margin = 0.1 * (boxes[:, 2:] - boxes[:, :2]) + MASK_STRIDE
    low, high = boxes[:, :2] - margin, boxes[:, 2:] + margin
    across = (x >= low[:, :1]) & (x <= high[:, :1])
    down = (y >= low[:, 1:]) & (y <= high[:, 1:])
    return (down[:, :, None] & across[:, None, :]).float()

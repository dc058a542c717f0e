"""The loss of a training step: the paper's three terms, with the regions and captions of all processes in one matrix.

Sources: as in `losses.py`. Shapes: R = regions of this process, W = processes, T = tags, E = width of text embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.losses import REGION_TEXT_WEIGHT, TAG_WEIGHT, asymmetric_loss
from dynrefer.workbench.training.samples import TrainingBatch

# The tag loss is a sum over the batch, and the recipe chose its weight for this many regions per process.
REFERENCE_BATCH = 64
TERMS = ("language", "tags", "region_text")


class _GatherRows(torch.autograd.Function):
    """The rows of all processes; backwards, each process gets the sum of all gradients of its rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """(R, ...) of each process -> (W * R, ...), in the order of ranks, differentiable. R is the same everywhere."""
    if not _is_distributed():
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]  # torch types no Function.apply
    return gathered


def global_contrastive_loss(logits: Tensor, rank: int) -> Tensor:
    """This process's part of the sigmoid contrastive loss of the global batch; a scalar.

    logits: (R, W * R), scaled by temperature and bias: row = region of this process, column = caption of any process;
    the matching captions begin at column rank * R. The mean over the processes is `losses.sigmoid_contrastive_loss` of
    the whole matrix, and the mean of the gradients is its gradient.
    """
    rows, columns = logits.shape
    own = torch.arange(rows, device=logits.device) + rank * rows
    signs = 2.0 * F.one_hot(own, columns).to(torch.float32) - 1.0
    return -F.logsigmoid(signs * logits.float()).sum() / rows


class TrainingObjective(nn.Module):
    """Batch -> loss terms.

    Their mean over all processes is the loss of one process with the global batch; their mean over accumulated passes
    is that of one large pass, except for the contrastive term, which sees one pass at a time. tag_embeddings: (T, E).
    The towers stay in evaluation mode; `train_vision` lets gradients into the vision tower.
    """

    tag_embeddings: Tensor

    def __init__(self, network: DynReferModel, tag_embeddings: Tensor, *, tag_gamma: float, train_vision: bool) -> None:
        super().__init__()
        self.network, self.tag_gamma, self.train_vision = network, tag_gamma, train_vision
        self.register_buffer("tag_embeddings", tag_embeddings, persistent=False)

    def train(self, mode: bool = True) -> TrainingObjective:
        """Set the mode of all but the towers: they keep their normalisation statistics and use no dropout."""
        super().train(mode)
        self.network.vision.eval()
        self.network.text.eval()
        return self

    def forward(self, batch: TrainingBatch, tokens: Tensor) -> dict[str, Tensor]:
        """Scalars: `TERMS`, unweighted, and "total"; to be averaged over a step's passes and over the processes.

        tokens: `mean_tokens` of the step.
        """
        network, regions = self.network, len(batch.images)
        with torch.set_grad_enabled(self.train_vision and torch.is_grad_enabled()):
            features = network.encode(batch.images.flatten(0, 1))
        representation = network.represent(features, batch.boxes)
        with torch.no_grad():
            captions = network.embed_texts(batch.caption_ids)
        language = network.language.loss(representation, batch.control_ids, batch.control_mask, batch.labels)
        tags = asymmetric_loss(
            network.tag_decoder(representation, self.tag_embeddings), batch.tags, gamma_negative=self.tag_gamma
        )
        pairs = network.region_text_decoder(representation, gather_rows(captions))
        terms = {
            # The mean over this pass's tokens, weighted so that the mean over passes is that over the step's tokens.
            "language": language * (batch.labels != IGNORED).sum() / tokens,
            "tags": tags * (REFERENCE_BATCH / regions),
            "region_text": global_contrastive_loss(network.calibrate_region_text(pairs), _rank()),
        }
        return {**terms, "total": weighted_total(terms)}


def weighted_total(terms: dict[str, Tensor]) -> Tensor:
    """Language + 0.01 * tags + 0.5 * region-text."""
    return terms["language"] + TAG_WEIGHT * terms["tags"] + REGION_TEXT_WEIGHT * terms["region_text"]


def mean_tokens(batches: Sequence[TrainingBatch], device: torch.device) -> Tensor:
    """Caption tokens per forward pass, as the mean over one step's passes of all processes; a scalar on `device`."""
    count = torch.stack([(batch.labels != IGNORED).sum() for batch in batches]).float().mean().to(device)
    if _is_distributed():
        dist.all_reduce(count)
        count /= dist.get_world_size()
    return count


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rank() -> int:
    return dist.get_rank() if _is_distributed() else 0

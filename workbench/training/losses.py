"""The paper's losses: tags (asymmetric), region-text (sigmoid contrastive), language, and their sum.

Sources: paper, section 3.4; asymmetric loss: arXiv 2009.14119; sigmoid contrastive loss: arXiv 2303.15343.
Shapes: R = regions, T = tags, L = caption tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.model import DynReferModel

TAG_WEIGHT = 0.01
REGION_TEXT_WEIGHT = 0.5
_MIN_PROBABILITY = 1e-8  # below this, the logarithm is cut off


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_negative: float = 7.0,
    gamma_positive: float = 0.0,
    clip: float = 0.05,
) -> Tensor:
    """Binary cross-entropy that discounts easy negatives; the sum over all entries, a scalar.

    logits: (R, T). targets: (R, T), 0 or 1. A negative's probability is first lowered by `clip`; each term is
    weighted by (1 - its probability) ** gamma, and the weight carries no gradient, as in the released code.
    """
    positive = torch.sigmoid(logits.float())
    negative = (1.0 - positive + clip).clamp(max=1.0)
    is_positive = targets.to(positive.dtype)
    right = torch.where(targets > 0, positive, negative)
    gamma = gamma_positive * is_positive + gamma_negative * (1.0 - is_positive)
    weight = (1.0 - right).detach() ** gamma
    return -(right.clamp(min=_MIN_PROBABILITY).log() * weight).sum()


def sigmoid_contrastive_loss(logits: Tensor) -> Tensor:
    """Binary classification of every pair of a region and a caption; a scalar.

    logits: (R, R), already scaled by temperature and bias (`DynReferModel.calibrate_region_text`): row = region,
    column = caption, the matching pairs on the diagonal. The sum over the pairs divided by R: with all regions and
    captions of the global batch in one matrix, the two directions of the paper are the same sum.
    """
    signs = 2.0 * torch.eye(logits.shape[0], device=logits.device) - 1.0
    return -F.logsigmoid(signs * logits.float()).sum() / logits.shape[0]


@dataclass(frozen=True)
class DynReferLosses:
    """The three unweighted terms, and their weighted sum; scalars."""

    language: Tensor
    tags: Tensor
    region_text: Tensor

    @property
    def total(self) -> Tensor:
        """Language + 0.01 * tags + 0.5 * region-text."""
        return self.language + TAG_WEIGHT * self.tags + REGION_TEXT_WEIGHT * self.region_text


def dynrefer_losses(
    network: DynReferModel,
    representation: Tensor,
    *,
    tag_embeddings: Tensor,
    tag_targets: Tensor,
    caption_embeddings: Tensor,
    control_ids: Tensor,
    control_mask: Tensor,
    labels: Tensor,
) -> DynReferLosses:
    """The three losses of R regions with one caption each.

    representation: (R, Q, C) from `DynReferModel.represent`. tag_embeddings: (T, E). tag_targets: (R, T),
    0 or 1. caption_embeddings: (R, E), from the text tower. control_ids, control_mask: (R, W) int64.
    labels: (R, L) int64, `dynrefer.model.networks.dynrefer.language.IGNORED` at padding.
    """
    pairs = network.region_text_decoder(representation, caption_embeddings)
    return DynReferLosses(
        language=network.language.loss(representation, control_ids, control_mask, labels),
        tags=asymmetric_loss(network.tag_decoder(representation, tag_embeddings), tag_targets),
        region_text=sigmoid_contrastive_loss(network.calibrate_region_text(pairs)),
    )

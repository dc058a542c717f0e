"""Second stage of the embedded model: DynRefer itself, with the paper's three losses, on regions with random nested
views.

Beside the paper's losses there are three more, because everything starts from nothing here: the region-text decoder
also sees the names of all categories and attributes (not only captions), and a relation is read off the queries by a
head that is
thrown away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.dynrefer import DynReferModel
from model.training.data import RegionBatch
from model.training.losses import asymmetric_loss, sigmoid_contrastive_loss
from model.training.world import World
from model.vocabulary import TextEmbeddings, Vocabulary

_TAG_WEIGHT = 0.05
_CONTRAST_WEIGHT = 0.1
_GAMMA_NEGATIVE = 4.0  # the paper's 7 is for 4,585 tags; with under 200 it squeezes the scores together
_START_BIAS = -5.0  # the paper's -10 is for batches of 512


class JointTraining(nn.Module):
    """The network, the fixed text embeddings of its vocabulary, and the auxiliary head."""

    def __init__(
        self, model: DynReferModel, world: World, vocabulary: Vocabulary, texts: TextEmbeddings, *, train_vision: bool
    ) -> None:
        super().__init__()
        self.model, self.texts, self.train_vision = model, texts, train_vision
        self.owner = torch.tensor(vocabulary.attribute_owner)
        self.relation = nn.Linear(model.query_tokens.shape[-1], len(world.relations))
        if not train_vision:
            nn.init.constant_(model.region_text_bias, _START_BIAS)
        model.text.requires_grad_(False)
        model.vision.requires_grad_(train_vision)

    def train(self, mode: bool = True) -> JointTraining:
        """The towers stay in evaluation mode: their normalisation statistics are fixed after the first stage."""
        super().train(mode)
        self.model.vision.eval()
        self.model.text.eval()
        return self

    def represent(self, batch: RegionBatch) -> Tensor:
        """(R, Q, C) of the batch's regions, each distinct view encoded once."""
        with torch.set_grad_enabled(self.train_vision), torch.autocast("cpu", torch.bfloat16):
            features = self.model.encode(batch.images.contiguous(memory_format=torch.channels_last))
        features = features.__class__(features.map.float(), None)
        return self.model.represent(features.take(batch.index.flatten()), batch.boxes)

    def losses(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The terms, already weighted; their sum is the loss."""
        region, targets = self.represent(batch), batch.targets
        regions = len(region)
        tags = asymmetric_loss(
            self.model.tag_decoder(region, self.texts.tags), targets.tags, gamma_negative=_GAMMA_NEGATIVE
        )
        with torch.no_grad():
            captions = self.model.embed_texts(targets.captions)
        texts = torch.cat((captions, self.texts.categories, self.texts.attributes))
        sizes = [regions, len(self.texts.categories), len(self.texts.attributes)]
        contrast, category, attribute = self.model.region_text_decoder(region, texts).split(sizes, dim=1)
        scaled = self.model.calibrate_region_text(attribute)
        attributes = targets.attributes[:, self.owner]
        known = attributes >= 0
        relation = self.relation(region.mean(1))
        return {
            "language": self.model.language.loss(region, batch.control_ids, batch.control_mask, batch.labels),
            "tags": _TAG_WEIGHT * tags / regions,
            "region_text": _CONTRAST_WEIGHT * sigmoid_contrastive_loss(self.model.calibrate_region_text(contrast)),
            "category": F.cross_entropy(self.model.calibrate_region_text(category), targets.category),
            "attribute": F.binary_cross_entropy_with_logits(scaled[known], attributes[known].float()),
            "relation": 0.3 * F.cross_entropy(relation, targets.relation),
        }

    @torch.no_grad()
    def accuracy(self, batch: RegionBatch) -> dict[str, float]:
        """Shares of right categories and relations, and F1 of the tags above 0.5, on one batch, in evaluation mode."""
        region, targets = self.represent(batch), batch.targets
        category = self.model.region_text_decoder(region, self.texts.categories).argmax(1)
        tags = self.model.tag_decoder(region, self.texts.tags) > 0
        right = (tags & (targets.tags > 0)).sum()
        return {
            "category": float((category == targets.category).float().mean()),
            "relation": float((self.relation(region.mean(1)).argmax(1) == targets.relation).float().mean()),
            "tag_f1": float(2 * right / (tags.sum() + targets.tags.sum())),
        }

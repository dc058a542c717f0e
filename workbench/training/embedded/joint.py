"""Joint training of the embedded model: the DynRefer network on regions with random nested views.

To the paper's three losses it adds three, because all weights start at random here: the region-text decoder also
compares with the names of all categories and attributes, not only with captions, and a head that is discarded
afterwards predicts a relation from the queries.

Shapes: R = regions, Q = queries, C = channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import RegionBatch, Targets
from dynrefer.workbench.training.losses import asymmetric_loss, sigmoid_contrastive_loss

_CONTRAST_WEIGHT = 0.1
_GAMMA_NEGATIVE = 4.0  # the paper's 7 is for 4,585 tags; with fewer than 200 the scores come too close together


@dataclass(frozen=True)
class JointWeights:
    """Weights that a stage sets: of attributes (a mean over prompts) and tags (a sum over tags, per region)."""

    attributes: float
    tags: float


def represent(model: DynReferModel, batch: RegionBatch, *, vision: bool) -> Tensor:
    """(R, Q, C) of the batch's regions, each distinct view encoded once; vision: with gradients of the tower."""
    with torch.set_grad_enabled(vision), torch.autocast(batch.images.device.type, torch.bfloat16):
        features = model.encode(batch.images.contiguous(memory_format=torch.channels_last))
    features = VisionFeatures(features.map.float(), None)
    return model.represent(features.take(batch.index.flatten()), batch.boxes)


class JointTraining(nn.Module):
    """The network, the fixed text embeddings of its vocabulary, and the auxiliary head.

    vision: train the vision tower too; the text tower is always frozen. texts: on the device of the training.
    """

    owner: Tensor  # of each attribute prompt

    def __init__(
        self,
        model: DynReferModel,
        world: World,
        vocabulary: Vocabulary,
        texts: TextEmbeddings,
        *,
        vision: bool,
        weights: JointWeights,
    ) -> None:
        super().__init__()
        self.model, self.texts, self.vision, self.weights = model, texts, vision, weights
        self.register_buffer("owner", torch.tensor(vocabulary.attribute_owner), persistent=False)
        self.relation = nn.Linear(model.query_tokens.shape[-1], len(world.relations))
        model.requires_grad_(True)
        model.text.requires_grad_(False)
        model.vision.requires_grad_(vision)

    def train(self, mode: bool = True) -> JointTraining:
        """Set the mode of all but the towers: their normalisation statistics are fixed after pretraining."""
        super().train(mode)
        self.model.vision.eval()
        self.model.text.eval()
        return self

    def represent(self, batch: RegionBatch) -> Tensor:
        """(R, Q, C) of the batch's regions."""
        return represent(self.model, batch, vision=self.vision)

    def losses(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The weighted terms, scalars; their sum is the loss."""
        region = self.represent(batch)
        tags = asymmetric_loss(
            self.model.tag_decoder(region, self.texts.tags), batch.targets.tags, gamma_negative=_GAMMA_NEGATIVE
        )
        relation = self.relation(region.mean(1))
        return self._region_text(region, batch.targets) | {
            "language": self.model.language.loss(region, batch.control_ids, batch.control_mask, batch.labels),
            "tags": self.weights.tags * tags / len(region),
            "relation": 0.3 * F.cross_entropy(relation, batch.targets.relation),
        }

    def _region_text(self, region: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The region-text terms: the batch's captions, all categories and all attribute prompts."""
        with torch.no_grad():
            captions = self.model.embed_texts(targets.captions)
        texts = torch.cat((captions, self.texts.categories, self.texts.attributes))
        sizes = [len(region), len(self.texts.categories), len(self.texts.attributes)]
        logits = self.model.calibrate_region_text(self.model.region_text_decoder(region, texts))
        contrast, category, attribute = logits.split(sizes, dim=1)
        attributes = targets.attributes[:, self.owner]
        known = attributes >= 0
        answered = F.binary_cross_entropy_with_logits(attribute[known], attributes[known].float())
        return {
            "region_text": _CONTRAST_WEIGHT * sigmoid_contrastive_loss(contrast),
            "category": F.cross_entropy(category, targets.category),
            "attribute": self.weights.attributes * answered,
        }

    @torch.no_grad()
    def accuracy(self, batch: RegionBatch) -> dict[str, float]:
        """Proportions of right categories and relations, and F1 of tags above 0.5, on one batch, in evaluation mode."""
        region, targets = self.represent(batch), batch.targets
        category = self.model.region_text_decoder(region, self.texts.categories).argmax(1)
        tags = self.model.tag_decoder(region, self.texts.tags) > 0
        right = (tags & (targets.tags > 0)).sum()
        return {
            "category": float((category == targets.category).float().mean()),
            "relation": float((self.relation(region.mean(1)).argmax(1) == targets.relation).float().mean()),
            "tag_f1": float(2 * right / (tags.sum() + targets.tags.sum())),
        }

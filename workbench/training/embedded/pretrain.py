"""Pretraining of the embedded model's vision and text towers.

The paper starts from a frozen EVA-CLIP; a small model that is trained from random weights needs towers of its own.
Close-up crops teach appearance; context views, with every object in them pooled, teach surroundings. Texts and regions
are compared by cosine similarity, as in CLIP.

Shapes: R = regions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.dynrefer.region import roi_align
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import PretrainBatch

_CAPTIONS = 64  # regions of a batch in the contrastive loss: more of them take time and add little
_HIDDEN = 320
_LOGIT_SCALE = 20.0


class Pretraining(nn.Module):
    """The two towers, with heads on the pooled feature map of a region; the heads are discarded afterwards."""

    def __init__(self, model: DynReferModel, world: World, vocabulary: Vocabulary, text_tokenizer: Any) -> None:
        super().__init__()
        self.model, self.world, self.vocabulary, self.tokenizer = model, world, vocabulary, text_tokenizer
        width = model.fusion.project.out_features
        embedding = model.config.text_config.projection_dim
        self.hidden = nn.Sequential(nn.Linear(2 * width, _HIDDEN), nn.GELU())
        self.category, self.attribute, self.caption = (nn.Linear(_HIDDEN, embedding) for _ in range(3))
        self.relation = nn.Linear(_HIDDEN, len(world.relations))
        self.scene = nn.Linear(_HIDDEN, len(world.scenes))
        # Names alone train too slowly: at first all text embeddings are alike, so neither tower gets a useful gradient.
        self.classifier = nn.Linear(_HIDDEN, len(world.categories))
        self.attribute_weight = 2.0
        self.bias = nn.Parameter(torch.tensor(-3.0))  # most attributes are absent

    def losses(self, batch: PretrainBatch) -> dict[str, Tensor]:
        """The weighted terms, scalars; their sum is the loss."""
        targets = batch.targets
        with torch.autocast(batch.images.device.type, torch.bfloat16):
            features = self.model.encode(batch.images.contiguous(memory_format=torch.channels_last))
        hidden = self._pool(features.map.float(), batch)
        names, prompts = self._texts()
        category = F.cross_entropy(_cosine(self.category(hidden), names), targets.category)
        known = targets.attributes >= 0
        attribute = F.binary_cross_entropy_with_logits(
            _cosine(self.attribute(hidden), prompts)[known] + self.bias, targets.attributes[known].float()
        )
        far = ~batch.near  # a close-up does not show the neighbour
        relation = F.cross_entropy(self.relation(hidden[far]), targets.relation[far]) if far.any() else hidden.sum() * 0
        scene = _scene_loss(self.scene(hidden), targets.scene)
        classifier = F.cross_entropy(self.classifier(hidden), targets.category)
        return {
            "classifier": classifier,
            "category": category,
            "attribute": self.attribute_weight * attribute,
            "relation": relation,
            "scene": 0.3 * scene,
            "caption": 0.3 * self._contrast(hidden, targets.captions),
        }

    def _pool(self, maps: Tensor, batch: PretrainBatch) -> Tensor:
        """The input of the heads for each region: (R, hidden). The views may be smaller than the model's."""
        config, scale = self.model.config, maps.shape[-1] / batch.images.shape[-1]
        pooled = roi_align(maps[batch.owner], batch.boxes, scale, config.roi_size, config.roi_sampling_ratio)
        hidden: Tensor = self.hidden(torch.cat((pooled.mean((2, 3)), pooled.amax((2, 3))), dim=1))
        return hidden

    def _texts(self) -> tuple[Tensor, Tensor]:
        """Embeddings of one name per category (a random synonym) and one prompt per attribute."""
        names = []
        for category in self.world.categories:
            words = (category.name, category.name, *category.synonyms)
            names.append("the " + words[int(torch.randint(len(words), ()))])
        owner = torch.tensor(self.vocabulary.attribute_owner)
        order = torch.randperm(len(owner))
        first = torch.full((len(self.vocabulary.attributes),), -1)
        first[owner[order]] = order  # the last prompt written wins: a random one per attribute
        prompts = [self.vocabulary.attribute_prompts[int(i)] for i in first]
        ids = self.tokenizer([*names, *prompts], padding=True, return_tensors="pt").input_ids.to(self.bias.device)
        named, prompted = self.model.embed_texts(ids).split([len(names), len(prompts)])
        return named, prompted

    def _contrast(self, hidden: Tensor, captions: Tensor) -> Tensor:
        some = torch.randperm(len(hidden))[:_CAPTIONS].to(hidden.device)
        logits = _cosine(self.caption(hidden[some]), self.model.embed_texts(captions[some]))
        own = torch.arange(len(some), device=hidden.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    @torch.no_grad()
    def accuracy(self, batch: PretrainBatch) -> dict[str, float]:
        """Proportions of right categories (near, far) and relations (far) on one batch, in evaluation mode."""
        hidden = self._pool(self.model.encode(batch.images).map, batch)
        named = _cosine(self.category(hidden), self._texts()[0]).argmax(1) == batch.targets.category
        classified = self.classifier(hidden).argmax(1) == batch.targets.category
        relation = self.relation(hidden).argmax(1) == batch.targets.relation
        far = ~batch.near
        return {
            "near_classified": float(classified[batch.near].float().mean()),
            "near": float(named[batch.near].float().mean()),
            "far": float(named[far].float().mean()) if far.any() else 0.0,
            "relation": float(relation[far].float().mean()) if far.any() else 0.0,
        }


def _scene_loss(logits: Tensor, scene: Tensor) -> Tensor:
    """Mean cross-entropy over the regions whose background is one of the world's; 0 if there is none."""
    known = (scene != IGNORED).sum().clamp(min=1)
    return F.cross_entropy(logits, scene, ignore_index=IGNORED, reduction="sum") / known


def _cosine(regions: Tensor, texts: Tensor) -> Tensor:
    return _LOGIT_SCALE * F.normalize(regions, dim=-1) @ F.normalize(texts, dim=-1).T

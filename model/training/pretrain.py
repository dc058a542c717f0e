"""First stage of the embedded model: the vision and the text tower learn what the world looks like and is called.

The paper starts from a frozen EVA-CLIP; a small model that is trained from nothing needs its own. Close-up crops teach appearance;
context views, with every object in them pooled, teach surroundings. Texts and regions meet as in CLIP, by cosine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.network.dynrefer import DynReferModel
from model.network.region import roi_align
from model.training.data import PretrainBatch
from model.training.world import World
from model.vocabulary import Vocabulary

_CAPTIONS = 96  # regions of a batch whose captions are contrasted: more cost time and teach little
_HIDDEN = 320
_LOGIT_SCALE = 20.0


class Pretraining(nn.Module):
    """Heads on the pooled map of a region; they are thrown away afterwards, the two towers stay."""

    def __init__(self, model: DynReferModel, world: World, vocabulary: Vocabulary, text_tokenizer: Any) -> None:
        super().__init__()
        self.model, self.world, self.vocabulary, self.tokenizer = model, world, vocabulary, text_tokenizer
        width = model.fusion.project.out_features
        embedding = model.config.text_config.projection_dim  # type: ignore[union-attr]
        self.hidden = nn.Sequential(nn.Linear(2 * width, _HIDDEN), nn.GELU())
        self.category, self.attribute, self.tag, self.caption = (nn.Linear(_HIDDEN, embedding) for _ in range(4))
        self.relation = nn.Linear(_HIDDEN, len(world.relations))
        self.scene = nn.Linear(_HIDDEN, len(world.scenes))
        self.bias = nn.Parameter(torch.tensor([-3.0, -5.0]))  # attributes, tags: most are absent

    def losses(self, batch: PretrainBatch) -> dict[str, Tensor]:
        """The terms, already weighted; their sum is the loss."""
        targets = batch.targets
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model.encode(batch.images.contiguous(memory_format=torch.channels_last))
        hidden = self._pool(features.map.float(), batch)
        names, prompts, tags = self._texts()
        category = F.cross_entropy(_cosine(self.category(hidden), names), targets.category)
        known = targets.attributes >= 0
        attribute = F.binary_cross_entropy_with_logits(
            _cosine(self.attribute(hidden), prompts)[known] + self.bias[0], targets.attributes[known].float()
        )
        tag = F.binary_cross_entropy_with_logits(
            _cosine(self.tag(hidden), tags) + self.bias[1], targets.tags, reduction="none"
        )
        relation = F.cross_entropy(self.relation(hidden[~batch.near]), targets.relation[~batch.near])
        scene = F.cross_entropy(self.scene(hidden), targets.scene)
        return {
            "category": category,
            "attribute": 2 * attribute,
            "tag": 0.1 * tag.sum(1).mean(),
            "relation": relation,
            "scene": 0.3 * scene,
            "caption": 0.3 * self._contrast(hidden, targets.captions),
        }

    def _pool(self, maps: Tensor, batch: PretrainBatch) -> Tensor:
        """What the heads read of each region: (R, hidden). The views may be smaller than the model's."""
        config, scale = self.model.config, maps.shape[-1] / batch.images.shape[-1]
        pooled = roi_align(maps[batch.owner], batch.boxes, scale, config.roi_size, config.roi_sampling_ratio)
        hidden: Tensor = self.hidden(torch.cat((pooled.mean((2, 3)), pooled.amax((2, 3))), dim=1))
        return hidden

    def _texts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of one name per category (a random synonym), one prompt per attribute, and the tags."""
        names = []
        for category in self.world.categories:
            words = (category.name, category.name, *category.synonyms)
            names.append("the " + words[int(torch.randint(len(words), ()))])
        owner = torch.tensor(self.vocabulary.attribute_owner)
        order = torch.randperm(len(owner))
        first = torch.full((len(self.vocabulary.attributes),), -1)
        first[owner[order]] = order  # the last prompt written wins: a random one per attribute
        prompts = [self.vocabulary.attribute_prompts[int(i)] for i in first]
        texts = [*names, *prompts, *self.world.tags]
        ids = self.tokenizer(texts, padding=True, return_tensors="pt").input_ids
        embeddings = self.model.embed_texts(ids)
        a, b, c = embeddings.split([len(names), len(prompts), len(self.world.tags)])
        return a, b, c

    def _contrast(self, hidden: Tensor, captions: Tensor) -> Tensor:
        some = torch.randperm(len(hidden))[:_CAPTIONS]
        logits = _cosine(self.caption(hidden[some]), self.model.embed_texts(captions[some]))
        own = torch.arange(len(some))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    @torch.no_grad()
    def accuracy(self, batch: PretrainBatch) -> dict[str, float]:
        """Shares of right categories (near, far) and relations (far) on one batch, in evaluation mode."""
        hidden = self._pool(self.model.encode(batch.images).map, batch)
        right = _cosine(self.category(hidden), self._texts()[0]).argmax(1) == batch.targets.category
        relation = self.relation(hidden).argmax(1) == batch.targets.relation
        far = ~batch.near
        return {
            "near": float(right[batch.near].float().mean()),
            "far": float(right[far].float().mean()),
            "relation": float(relation[far].float().mean()),
        }


def _cosine(regions: Tensor, texts: Tensor) -> Tensor:
    return _LOGIT_SCALE * F.normalize(regions, dim=-1) @ F.normalize(texts, dim=-1).T

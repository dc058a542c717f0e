"""Tuning of the recognition decoders: what corrections say is learned, what they do not speak of is kept.

Only the decoders that corrections judge are trained: that of tags, and the one of categories and attributes together.
Where nothing is known of a word of a region, the decoder is held to what the model said before (distillation), so that
the words that share its weights stay. Temperature and bias of the region-text head stay too; calibration follows.

Shapes: R = regions, Q = queries, C = channels, T = tags, K = categories, A = attributes, P = attribute prompts.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.types import Task
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary
from dynrefer.workbench.training.losses import asymmetric_loss

FEW_TAGS, FEW_TAGS_GAMMA, GAMMA = 200, 4.0, 7.0  # as `dynrefer train --tag-gamma` advises
# Of a sum over tags per region, and of means; as the embedded recipe weighs them.
_TAGS, _CATEGORIES, _ATTRIBUTES, _KEEP = 0.1, 1.0, 5.0, 1.0


@dataclass(frozen=True)
class HeadBatch:
    """R regions. representation: (R, Q, C). categories, tags, attributes: (R, N) int8; 1, 0, or -1 where unknown."""

    representation: Tensor
    categories: Tensor
    tags: Tensor
    attributes: Tensor


@dataclass(frozen=True)
class _Logits:
    tags: Tensor
    categories: Tensor
    attributes: Tensor  # of prompts


class HeadTuning(nn.Module):
    """The decoders of the tasks, trained; texts: of the vocabulary. known: its size before words were added."""

    owner: Tensor

    def __init__(
        self, network: DynReferModel, vocabulary: Vocabulary, texts: TextEmbeddings, known: Vocabulary,
        tasks: Collection[Task],
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.texts, self.tasks = network, texts, frozenset(tasks)
        self.register_buffer("owner", torch.tensor(vocabulary.attribute_owner, dtype=torch.int64), persistent=False)
        self._known = (len(known.tags), len(known.categories), len(known.attribute_prompts))
        self._gamma = FEW_TAGS_GAMMA if len(vocabulary.tags) < FEW_TAGS else GAMMA
        network.requires_grad_(False)
        network.train(False)
        self._before = [copy.deepcopy(network.tag_decoder), copy.deepcopy(network.region_text_decoder)]
        network.tag_decoder.requires_grad_(Task.TAGS in self.tasks)
        network.region_text_decoder.requires_grad_(bool(self.tasks & {Task.CATEGORIES, Task.ATTRIBUTES}))

    def train(self, mode: bool = True) -> HeadTuning:
        """Set the mode of the decoders that learn."""
        super().train(mode)
        self.network.train(False)
        for decoder in (self.network.tag_decoder, self.network.region_text_decoder):
            decoder.train(mode and any(parameter.requires_grad for parameter in decoder.parameters()))
        return self

    def losses(self, batch: HeadBatch) -> dict[str, Tensor]:
        """The weighted terms, scalars; their sum is the loss."""
        now = self._logits(batch.representation, self.network.tag_decoder, self.network.region_text_decoder)
        with torch.no_grad():
            before = self._logits(batch.representation, *self._before)
        terms = dict[str, Tensor]()
        if Task.TAGS in self.tasks:
            terms |= self._tag_terms(now.tags, before.tags, batch.tags)
        if self.tasks & {Task.CATEGORIES, Task.ATTRIBUTES}:
            terms |= self._category_terms(now.categories, before.categories, batch.categories)
            terms |= self._attribute_terms(now.attributes, before.attributes, batch.attributes[:, self.owner])
        return terms

    def _logits(self, representation: Tensor, tags: nn.Module, region_text: nn.Module) -> _Logits:
        texts = torch.cat((self.texts.categories, self.texts.attributes))
        pairs = self.network.calibrate_region_text(region_text(representation, texts))
        categories, attributes = pairs.split([len(self.texts.categories), len(self.texts.attributes)], dim=1)
        return _Logits(tags(representation, self.texts.tags), categories, attributes)

    def _tag_terms(self, now: Tensor, before: Tensor, truth: Tensor) -> dict[str, Tensor]:
        known = truth >= 0
        learned = asymmetric_loss(now[known], truth[known].float(), gamma_negative=self._gamma)
        return {"tags": _TAGS * learned / len(truth), "keep_tags": self._kept(now, before, truth, self._known[0])}

    def _category_terms(self, now: Tensor, before: Tensor, truth: Tensor) -> dict[str, Tensor]:
        judged = (truth == 1).any(dim=1)
        terms = dict[str, Tensor]()
        if judged.any():
            terms["categories"] = _CATEGORIES * F.cross_entropy(now[judged], truth[judged].argmax(dim=1))
        if not judged.all():
            old = self._known[1]
            target = before[~judged, :old].softmax(dim=1)
            terms["keep_categories"] = _KEEP * F.cross_entropy(now[~judged, :old], target)
        return terms

    def _attribute_terms(self, now: Tensor, before: Tensor, truth: Tensor) -> dict[str, Tensor]:
        known = truth >= 0
        terms = {"keep_attributes": self._kept(now, before, truth, self._known[2])}
        if known.any():
            answered = F.binary_cross_entropy_with_logits(now[known], truth[known].float())
            terms["attributes"] = _ATTRIBUTES * answered
        return terms

    @staticmethod
    def _kept(now: Tensor, before: Tensor, truth: Tensor, old: int) -> Tensor:
        """The mean cross-entropy with what the model said before, of what is unknown and was a word before."""
        unknown = truth[:, :old] < 0
        if not unknown.any():
            return now.new_zeros(())
        target = before[:, :old][unknown].sigmoid()
        return _KEEP * F.binary_cross_entropy_with_logits(now[:, :old][unknown], target)

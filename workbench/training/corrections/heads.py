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
# Of a sum over tags per region, and of means, as the embedded recipe weighs them; what is kept weighs as much.
_TAGS, _CATEGORIES, _ATTRIBUTES = 0.1, 1.0, 5.0


@dataclass(frozen=True)
class HeadBatch:
    """R regions. representation: (R, Q, C). categories, tags, attributes: (R, N) int8; 1, 0, or -1 where unknown.

    rehearsed: (R,) bool, of regions of which nothing new is learned: new words are wrong for them.
    """

    representation: Tensor
    categories: Tensor
    tags: Tensor
    attributes: Tensor
    rehearsed: Tensor


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

    @torch.no_grad()
    def blend(self, part: float) -> None:
        """Set the decoders' weights to so much of the way from those of before, 0, to the tuned ones, 1."""
        for before, decoder in zip(
            self._before, (self.network.tag_decoder, self.network.region_text_decoder), strict=True
        ):
            for old, tuned in zip(before.parameters(), decoder.parameters(), strict=True):
                tuned.copy_(torch.lerp(old, tuned, part))

    def train(self, mode: bool = True) -> HeadTuning:
        """Set the mode of the decoders that learn."""
        super().train(mode)
        self.network.train(False)
        for decoder in (self.network.tag_decoder, self.network.region_text_decoder):
            decoder.train(mode and any(parameter.requires_grad for parameter in decoder.parameters()))
        return self

    def losses(self, batch: HeadBatch) -> dict[str, Tensor]:
        """The weighted terms, scalars; their sum is the loss."""
        network, region, terms = self.network, batch.representation, dict[str, Tensor]()
        old_tags, old_pairs = self._before
        if Task.TAGS in self.tasks:
            with torch.no_grad():
                tags = old_tags(region, self.texts.tags)
            terms |= self._tag_terms(network.tag_decoder(region, self.texts.tags), tags, batch.tags)
        if self.tasks & {Task.CATEGORIES, Task.ATTRIBUTES}:
            with torch.no_grad():
                before = self._pairs(old_pairs, region)
            now = self._pairs(network.region_text_decoder, region)
            terms |= self._category_terms(now[0], before[0], batch)
            terms |= self._attribute_terms(now[1], before[1], batch.attributes[:, self.owner])
        return terms

    def _pairs(self, decoder: nn.Module, representation: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of categories, (R, K), and of attribute prompts, (R, P)."""
        texts = torch.cat((self.texts.categories, self.texts.attributes))
        logits = self.network.calibrate_region_text(decoder(representation, texts))
        categories, attributes = logits.split([len(self.texts.categories), len(self.texts.attributes)], dim=1)
        return categories, attributes

    def _tag_terms(self, now: Tensor, before: Tensor, truth: Tensor) -> dict[str, Tensor]:
        known = truth >= 0
        learned = asymmetric_loss(now[known], truth[known].float(), gamma_negative=self._gamma)
        kept = self._kept(now, before, truth, self._known[0])
        return {"tags": _TAGS * learned / len(truth), "keep_tags": _TAGS * kept / len(truth)}

    def _category_terms(self, now: Tensor, before: Tensor, batch: HeadBatch) -> dict[str, Tensor]:
        """The mean over regions, of which each is either judged or kept."""
        truth, count, old = batch.categories, len(batch.categories), self._known[1]
        judged = (truth == 1).any(dim=1)
        target = before[:, :old].softmax(dim=1)
        # New words have no part in what is kept of a rehearsed region; of a corrected one, not judged, who knows.
        whole = F.cross_entropy(now, F.pad(target, (0, now.shape[1] - old)), reduction="none")
        partial = F.cross_entropy(now[:, :old], target, reduction="none")
        learned = F.cross_entropy(now, truth.clamp(min=0).argmax(dim=1), reduction="none")
        kept = torch.where(batch.rehearsed, whole, partial)
        return {
            "categories": _CATEGORIES * (learned * judged).sum() / count,
            "keep_categories": _CATEGORIES * (kept * ~judged).sum() / count,
        }

    def _attribute_terms(self, now: Tensor, before: Tensor, truth: Tensor) -> dict[str, Tensor]:
        known = truth >= 0
        learned = F.binary_cross_entropy_with_logits(now[known], truth[known].float(), reduction="sum")
        kept = self._kept(now, before, truth, self._known[2])
        weight = _ATTRIBUTES / truth.numel()
        return {"attributes": weight * learned, "keep_attributes": weight * kept}

    @staticmethod
    def _kept(now: Tensor, before: Tensor, truth: Tensor, old: int) -> Tensor:
        """The cross-entropy with what the model said before, summed over all that is unknown and was a word before."""
        unknown = truth[:, :old] < 0
        target = before[:, :old][unknown].sigmoid()
        return F.binary_cross_entropy_with_logits(now[:, :old][unknown], target, reduction="sum")

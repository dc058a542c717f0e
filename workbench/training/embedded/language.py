"""Training of the language model alone: its projection and control vector too, everything else frozen.

Shapes: R = regions, Q = queries, C = channels, L = tokens of a caption.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.embedded.drawn_batches import RegionBatch
from dynrefer.workbench.training.embedded.joint import represent


class LanguageTraining(nn.Module):
    """The network, of which the language decoder learns."""

    def __init__(self, model: DynReferModel) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        model.language.requires_grad_(True)

    def train(self, mode: bool = True) -> LanguageTraining:
        """Set the mode of the language decoder; the frozen parts stay in evaluation mode."""
        super().train(mode)
        self.model.train(False)
        self.model.language.train(mode)
        return self

    def losses(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The mean cross-entropy of the captions' tokens."""
        with torch.no_grad():
            region = represent(self.model, batch, vision=False)
        return {"language": self.model.language.loss(region, batch.control_ids, batch.control_mask, batch.labels)}

    @torch.no_grad()
    def accuracy(self, batch: RegionBatch) -> dict[str, float]:
        """The proportion of right tokens, given the right ones before, on one batch, in evaluation mode."""
        region = represent(self.model, batch, vision=False)
        pad = self.model.language.model.config.pad_token_id  # begins every sequence
        known = batch.labels != IGNORED
        before = nn.functional.pad(batch.labels[:, :-1], (1, 0), value=pad)
        before = before.masked_fill(before == IGNORED, pad)
        logits = self.model.language.logits(region, batch.control_ids, batch.control_mask, before)
        return {"token": float((logits.argmax(-1) == batch.labels)[known].float().mean())}

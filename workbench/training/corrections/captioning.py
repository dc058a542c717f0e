"""Tuning of captions: LoRA on the language model, everything else as it was. LoRA: arXiv 2106.09685, by peft."""

from __future__ import annotations

from torch import Tensor, nn

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.corrections.examples import CaptionBatch
from dynrefer.workbench.training.initial_model import add_lora


class CaptionTuning(nn.Module):
    """The network, of whose language model added matrices learn; they are added here, from random numbers: seed first.

    `initial_model.merge_lora` merges them into the weights afterwards.
    """

    def __init__(self, network: DynReferModel, rank: int, alpha: float) -> None:
        super().__init__()
        self.network = network
        network.requires_grad_(False)
        add_lora(network, rank, alpha)

    def train(self, mode: bool = True) -> CaptionTuning:
        """Set the mode of the language decoder; the rest stays in evaluation mode."""
        super().train(mode)
        self.network.train(False)
        self.network.language.train(mode)
        return self

    def losses(self, batch: CaptionBatch) -> dict[str, Tensor]:
        """The mean cross-entropy of the captions' tokens."""
        loss = self.network.language.loss(batch.representation, batch.control_ids, batch.control_mask, batch.labels)
        return {"language": loss}

"""Masked words of the grounded caption, as GLIPv2 has them: what is hidden has to be read off the region.

An object's caption is its colour and its name. One of the two is hidden, at random, and a small decoder, which is not
shipped, says it from the region's embedding and the other word. Shapes: M = objects, C = channels, T = names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

UNKNOWN = -1  # of a colour or a name


class MaskedWords(nn.Module):
    """The decoder. channels: C. names: T. colours: how many there are."""

    def __init__(self, channels: int, names: int, colours: int, width: int = 64) -> None:
        super().__init__()
        self.names = names
        self.words = nn.Embedding(names + colours + 1, width)  # the last stands for what is hidden
        self.hidden = nn.Linear(channels + 2 * width, 2 * width)
        self.says = nn.Linear(2 * width, names + colours)

    def forward(self, embeddings: Tensor, names: Tensor, colours: Tensor, hide_name: Tensor) -> Tensor:
        """Logits (M, T + colours) of the hidden words.

        embeddings: (M, C). names, colours: (M,) int64, known ones. hide_name: (M,) bool, else the colour is hidden.
        """
        hidden = torch.full_like(names, self.words.num_embeddings - 1)
        name = self.words(torch.where(hide_name, hidden, names))
        colour = self.words(torch.where(hide_name, colours + self.names, hidden))
        logits: Tensor = self.says(functional.relu(self.hidden(torch.cat([embeddings, name, colour], dim=1))))
        return logits

    def loss(self, embeddings: Tensor, names: Tensor, colours: Tensor, generator: torch.Generator) -> Tensor:
        """Of the objects whose name and colour are known; 0 without any."""
        known = (names != UNKNOWN) & (colours != UNKNOWN)
        if not known.any():
            return embeddings.sum() * 0
        embeddings, names, colours = embeddings[known], names[known], colours[known]
        hide_name = torch.rand(len(names), generator=generator) < 0.5
        said = self(embeddings, names, colours, hide_name)
        return functional.cross_entropy(said, torch.where(hide_name, names, colours + self.names))

"""Masked language modelling on the grounded caption, as GLIPv2 has it: hidden words are to be told from the regions.

The module exists in training only: what ships has no part of it. Only what is in the embeddings of the regions can tell
the words, so these learn more of an object than its name: here its colour.

Shapes: B = images, L = tokens, M = regions, C = channels of a region's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

_HIDDEN = 0.3  # of the tokens; at least one of each caption
_MOST_TOKENS = 48


class MaskedWords(nn.Module):
    """One layer over the words of a caption, which also looks at the regions of its image.

    width: C, a multiple of 4.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        # The last word is the mask: an own one, since not every tokenizer has such a token.
        self.words = nn.Embedding(len(tokenizer) + 1, width)
        self.positions = nn.Parameter(torch.zeros(_MOST_TOKENS, width))
        self.nothing = nn.Parameter(torch.zeros(width))  # what an image without regions shows
        self.layer = nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        nn.init.normal_(self.words.weight, std=width**-0.5)

    def forward(self, captions: Sequence[str], regions: Tensor, image: Tensor, rng: np.random.Generator) -> Tensor:
        """The loss, 0 if no caption has a word. captions: B; an empty one does not count. regions: (M, C); image: (M,)
        int64, which caption's image shows the region. rng: says which words are hidden."""
        ids, present = self._ids(captions)
        hidden = _hidden(present, rng)
        if not hidden.any():
            return regions.sum() * 0
        seen = torch.where(hidden, self.words.num_embeddings - 1, ids)
        words = self.words(seen) + self.positions[: ids.shape[1]]
        memory, absent = self._memory(regions, image, len(captions))
        # A caption without words would attend to nothing: it sees its padding, and is not in the loss.
        padding = ~present & present.any(dim=1, keepdim=True)
        found = self.layer(words, memory, tgt_key_padding_mask=padding, memory_key_padding_mask=absent)
        logits = found @ self.words.weight[:-1].T
        return functional.cross_entropy(logits[hidden], ids[hidden])

    def _ids(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, L) int64 tokens, and (B, L) bool, which of them are of the caption."""
        each = [
            self._tokenizer(text, add_special_tokens=False, truncation=True, max_length=_MOST_TOKENS)["input_ids"]
            for text in captions
        ]
        length = max(1, *(len(row) for row in each))
        ids = torch.zeros(len(each), length, dtype=torch.int64)
        present = torch.zeros(len(each), length, dtype=torch.bool)
        for place, row in enumerate(each):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
            present[place, : len(row)] = True
        return ids, present

    def _memory(self, regions: Tensor, image: Tensor, images: int) -> tuple[Tensor, Tensor]:
        """The regions by image, behind `nothing`: (B, 1 + most regions, C); and (B, same) bool, True for padding."""
        own = [regions[image == place] for place in range(images)]
        most = max(len(each) for each in own)
        rows = [
            torch.cat([self.nothing[None], each, each.new_zeros(most - len(each), regions.shape[1])]) for each in own
        ]
        counts = torch.tensor([len(each) for each in own])
        return torch.stack(rows), torch.arange(most + 1)[None] > counts[:, None]


def _hidden(present: Tensor, rng: np.random.Generator) -> Tensor:
    """Which tokens are to be told, (B, L) bool."""
    drawn = torch.from_numpy(rng.random(tuple(present.shape)))
    drawn = drawn.masked_fill(~present, 2.0)
    least = drawn == drawn.min(dim=1, keepdim=True).values
    return ((drawn < _HIDDEN) | least) & present

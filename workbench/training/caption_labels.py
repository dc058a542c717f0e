"""Captions as the language model is to write them: their tokens, then the end, and nothing in front.

Tokenizers of sequence-to-sequence models add the end by themselves, those of causal models a beginning instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.language import IGNORED


def caption_labels(tokenizer: Any, captions: Sequence[str], longest: int) -> Tensor:
    """Labels (R, L) int64 of R captions, `IGNORED` behind the end. longest: L at most; longer captions are cut."""
    rows = tokenizer(list(captions), add_special_tokens=False, truncation=True, max_length=longest - 1)["input_ids"]
    labels = torch.full((len(rows), max(map(len, rows), default=0) + 1), IGNORED)
    for row, ids in enumerate(rows):
        labels[row, : len(ids) + 1] = torch.tensor([*ids, tokenizer.eos_token_id])
    return labels

"""A T5's encoder for slots, recorded for few regions: launched kernel by kernel, one region takes as long as sixteen.

Shapes: M = regions, S = encoder tokens, D = model width.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt, cross_shape, encode_into, encode_prompt
from dynrefer.model.networks.kernels.graphs import Graphs, Work


class PromptEncoder:
    """Prompts of up to `length` tokens, recorded for each number of regions in `buckets` once `capture` is called.

    Regions between two buckets and tokens up to `length` are padded, the tokens masked. Memory: a row as in
    `EncodedPrompt`, 13 MB for the released model in bfloat16 with 64 tokens.
    """

    def __init__(self, model: Any, *, buckets: Sequence[int], length: int, graphs: Graphs) -> None:
        self._model, self._graphs, self._length = model, graphs, length
        self._buckets, like = sorted(buckets), model.lm_head.weight
        rows = self._buckets[-1]
        self._embeddings = like.new_zeros((rows, length, model.config.d_model))
        self._mask = torch.ones((rows, length), dtype=torch.int64, device=like.device)
        self._prompt = EncodedPrompt(
            like.new_zeros(cross_shape(model, rows, length)), like.new_zeros((rows, 1, 1, length))
        )
        self._recorded: dict[int, Work] = {}

    @torch.inference_mode()
    def __call__(self, embeddings: Tensor, mask: Tensor) -> EncodedPrompt:
        """As `encode_prompt`: embeddings (M, S, D), mask (M, S). What is returned is no recording's memory."""
        regions, length = mask.shape
        fitting = [rows for rows in self._recorded if rows >= regions]
        if not fitting or length > self._length:
            return encode_prompt(self._model, embeddings, mask)
        self._prompt.wait()  # the prompts before may have been encoded on another stream
        self._embeddings[:regions, :length] = embeddings
        self._mask[:regions, :length] = mask
        self._mask[:regions, length:] = 0
        self._recorded[min(fitting)]()
        found = EncodedPrompt(self._prompt.cross[:, :, :regions].clone(), self._prompt.bias[:regions].clone()).marked()
        self._prompt = EncodedPrompt(self._prompt.cross, self._prompt.bias, found.ready)
        return found

    @torch.inference_mode()
    def capture(self) -> None:
        """Record every bucket of regions; one that cannot be recorded is encoded without padding as before."""
        numbers = torch.arange(self._embeddings.numel(), device=self._embeddings.device)
        self._embeddings.copy_(numbers.sin().view_as(self._embeddings))
        for rows in reversed(self._buckets):  # the largest first: the others fit the memory that it needed
            work, made = partial(self._encode, rows), self._prompt[:rows]
            recorded = self._graphs.capture(f"prompts of {rows} regions", work, (made.cross, made.bias))
            if recorded is not work:
                self._recorded[rows] = recorded

    @torch.inference_mode()
    def _encode(self, rows: int) -> None:
        made = self._prompt[:rows]
        made.bias.copy_(encode_into(self._model, self._embeddings[:rows], self._mask[:rows], made.cross))

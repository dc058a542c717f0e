"""A causal language model of LLaMA's kind, one token at a time, behind a prompt of embeddings.

A region's prompt is kept once and shared by its beams, no cache is reordered. Positions count the tokens that may be
looked at, so where a prompt's padding lies, and how much of it there is, changes nothing. The weights, norms and
feed-forward parts are those of transformers' `LlamaForCausalLM`; attention and caches are ours.

Shapes: R = regions, B = beams, N = steps so far, S = prompt tokens, D = model width, d = channels of a head,
Y = vocabulary, M = tokens of an attention, H = heads (fewer for keys and values where heads share them).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from dynrefer.model.networks.generation.t5_stepper import word_logits
from dynrefer.model.networks.kernels.batch_invariance import least_regions, repeat_last
from dynrefer.model.networks.kernels.onednn import by_onednn


class LlamaSteps:
    """A batch of prompts and their caches; a `beam_search.Stepper`. For inference: there are no gradients.

    model: a `LlamaForCausalLM`. embeddings: (R, S, D). mask: (R, S), 1 where there is a token and 0 at padding, which
    may lie anywhere but at a row's first place.

    The prompt's last token gives the first word, so the search's start token is not read. Rows are added for batch
    invariance as in `T5Steps`.
    """

    def __init__(self, model: Any, embeddings: Tensor, mask: Tensor, beams: int, steps: int) -> None:
        self._model, self._beams, self._steps = model, beams, 0
        config = model.config
        self._width = config.head_dim
        self._grouped = config.num_key_value_heads != config.num_attention_heads
        torchs_own = embeddings.device.type == "cpu" and not by_onednn(embeddings, model.lm_head)
        self._least = least_regions(beams) if torchs_own else 1
        self._regions = len(mask)
        if spare := self._spare():
            embeddings, mask = repeat_last(embeddings, spare), repeat_last(mask, spare)
        seen = mask.bool()
        self._seen, self._length = seen, seen.sum(dim=1)  # (R, S), (R,)
        rows, prompt = mask.shape
        shape = (rows, config.num_key_value_heads, prompt + (steps - 1) * beams, self._width)
        self._cache = [(embeddings.new_empty(shape), embeddings.new_empty(shape)) for _ in model.model.layers]
        self._prompt = prompt
        hidden = self._layers(embeddings, seen.cumsum(dim=1) - 1, slice(0, prompt), _causal(seen))
        last = (seen * torch.arange(prompt, device=seen.device)).argmax(dim=1)  # the place of a row's last token
        self._first = hidden[torch.arange(rows, device=last.device), last, None]  # (R, 1, D)

    @property
    def cross_bytes(self) -> int:
        """Bytes of the prompt's keys and values, which all beams share."""
        return sum(2 * keys[:, :, : self._prompt].nbytes for keys, _ in self._cache)

    @property
    def own_bytes(self) -> int:
        """Bytes of the written tokens' keys and values, reserved for all steps."""
        return sum(2 * keys[:, :, self._prompt :].nbytes for keys, _ in self._cache)

    def step(self, tokens: Tensor, path: Tensor) -> Tensor:
        """As in `beam_search.Stepper`: tokens (R, B), path (R, B, N + 1) -> logits (R, B, Y)."""
        step, self._steps = self._steps, self._steps + 1
        if not step:
            return word_logits(self._model, self._first.expand(-1, self._beams, -1))[: self._regions]
        if spare := self._spare():
            tokens, path = repeat_last(tokens, spare), repeat_last(path, spare)
        places = torch.arange(self._beams, device=path.device)
        own = (path[:, :, 1:, None] == places).flatten(2)  # (R, B, N * B), without the start token's step
        prompt = self._seen[:, None].expand(-1, self._beams, -1)
        start = self._prompt + (step - 1) * self._beams
        positions = (self._length + step - 1)[:, None].expand(-1, self._beams)
        embeddings = self._model.get_input_embeddings()(tokens)
        allowed = torch.cat((prompt, own), dim=2)[:, None]
        hidden = self._layers(embeddings, positions, slice(start, start + self._beams), allowed)
        return word_logits(self._model, hidden)[: self._regions]

    def keep(self, rows: Tensor) -> None:
        """As in `beam_search.Stepper`."""
        self._regions = len(rows)
        if spare := self._spare():
            rows = repeat_last(rows, spare)
        self._cache = [(keys[rows], values[rows]) for keys, values in self._cache]
        self._seen, self._length, self._first = self._seen[rows], self._length[rows], self._first[rows]

    def _spare(self) -> int:
        """How many rows of padding the batch needs."""
        return max(0, self._least - self._regions)

    def _layers(self, hidden: Tensor, positions: Tensor, place: slice, allowed: Tensor) -> Tensor:
        """All layers and the last norm on new tokens (R, M, D).

        positions: (R, M). place: where in the caches their keys and values go. allowed: (R, 1, M, place.stop) bool.
        """
        turn = self._model.model.rotary_emb(hidden, position_ids=positions)
        for layer, cache in zip(self._model.model.layers, self._cache, strict=True):
            found = self._attention(layer.self_attn, layer.input_layernorm(hidden), turn, cache, place, allowed)
            hidden = hidden + found
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        normed: Tensor = self._model.model.norm(hidden)
        return normed

    def _attention(
        self,
        attention: Any,
        normed: Tensor,
        turn: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        place: slice,
        allowed: Tensor,
    ) -> Tensor:
        query, key = apply_rotary_pos_emb(
            self._split(attention.q_proj(normed)), self._split(attention.k_proj(normed)), *turn
        )
        keys, values = cache
        keys[:, :, place] = key
        values[:, :, place] = self._split(attention.v_proj(normed))
        found = F.scaled_dot_product_attention(
            query,
            keys[:, :, : place.stop],
            values[:, :, : place.stop],
            attn_mask=allowed,
            scale=attention.scaling,
            enable_gqa=self._grouped,
        )
        joined: Tensor = attention.o_proj(found.transpose(1, 2).flatten(2))
        return joined

    def _split(self, projected: Tensor) -> Tensor:
        """(R, M, H * d) -> (R, H, M, d)."""
        split: Tensor = projected.unflatten(-1, (-1, self._width))
        return split.transpose(1, 2)


def _causal(seen: Tensor) -> Tensor:
    """Which tokens (R, S) of a prompt each may look at, (R, 1, S, S) bool: itself and the seen ones before it."""
    length = seen.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
    return before & seen[:, None, None]

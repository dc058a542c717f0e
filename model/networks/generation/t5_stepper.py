"""T5's decoder, one token at a time: a region's encoder keys are shared by its beams, no cache is reordered.

The weights and the feed-forward parts are those of transformers' `T5ForConditionalGeneration`; attention and caches are
ours. Shapes: R = regions, B = beams, N = steps so far, S = encoder tokens, D = model width, d = channels of a head,
Y = vocabulary, M = tokens of an attention.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.generation.beam_search import highest
from dynrefer.model.networks.kernels.batch_invariance import dot_products, least_regions, repeat_last
from dynrefer.model.networks.kernels.onednn import by_onednn, linear

_EXACT_WORDS, _EXACT_PER_BEAM = 32, 4  # the larger of these: a search looks at two per beam


def encode(model: Any, embeddings: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's output (R, S, D), and what is added to attention scores at its tokens: (R, 1, 1, S), 0 or -inf.

    embeddings: (R, S, D). mask: (R, S), 1 where the encoder may look.
    """
    zeros = torch.zeros(mask.shape, dtype=embeddings.dtype, device=mask.device)
    bias = zeros.masked_fill_(mask == 0, float("-inf"))[:, None, None]
    # transformers takes a mask of this shape as it is; one of (R, S) it would first read back from the device.
    return model.get_encoder()(inputs_embeds=embeddings, attention_mask=bias).last_hidden_state, bias


def word_logits(model: Any, hidden: Tensor) -> Tensor:
    """The decoder's output (R, B, D) -> (R, B, Y) float32.

    With a bfloat16 head (8-bit significand), words tie that would not in float32, and another caption may win: the
    likeliest words are therefore computed again in float32. All of them would double the bytes read per token.
    """
    head, beams = model.lm_head.weight, hidden.shape[1]
    logits = linear(hidden, model.lm_head).float()
    if head.dtype != torch.float32:
        words = highest(logits, max(_EXACT_WORDS, _EXACT_PER_BEAM * beams))[1]
        logits.scatter_(-1, words, dot_products(head[words].float(), hidden[..., None, :].float()))
    return logits


class T5Steps:
    """A batch of encoded prompts and their decoder caches. For inference: there are no gradients.

    model: a `T5ForConditionalGeneration`. embeddings: (R, S, D). mask: (R, S), 1 where the encoder may look.

    For batch invariance the last region is repeated while there are fewer than `least_regions`, where the products are
    torch's own on a CPU (oneDNN's need no padding).
    """

    def __init__(self, model: Any, embeddings: Tensor, mask: Tensor, beams: int, steps: int) -> None:
        self._model, self._beams, self._steps = model, beams, 0
        self._heads, self._width = model.config.num_heads, model.config.d_kv
        encoded, self._encoder_bias = encode(model, embeddings, mask)
        torchs_own = encoded.device.type == "cpu" and not by_onednn(encoded, model.lm_head)
        self._least = least_regions(beams) if torchs_own else 1
        self._regions = len(mask)
        if spare := self._spare():
            encoded, self._encoder_bias = (repeat_last(each, spare) for each in (encoded, self._encoder_bias))
        blocks = model.decoder.block
        cross = [block.layer[1].EncDecAttention for block in blocks]
        self._cross = [(self._split(each.k(encoded)), self._split(each.v(encoded))) for each in cross]
        shape = (len(encoded), self._heads, steps * beams, self._width)  # (R, heads, steps * B, d), step by step
        self._cache = [(encoded.new_empty(shape), encoded.new_empty(shape)) for _ in blocks]
        own = blocks[0].layer[0].SelfAttention
        self._position_bias = own.compute_bias(steps, steps, device=mask.device)[0]  # (heads, steps, steps)

    @property
    def cross_bytes(self) -> int:
        """Bytes of the encoder's keys and values."""
        return sum(keys.nbytes + values.nbytes for keys, values in self._cross)

    @property
    def own_bytes(self) -> int:
        """Bytes of the decoder's own keys and values, reserved for all steps."""
        return sum(keys.nbytes + values.nbytes for keys, values in self._cache)

    def step(self, tokens: Tensor, path: Tensor) -> Tensor:
        """As in `beam_search.Stepper`: tokens (R, B), path (R, B, N + 1) -> logits (R, B, Y)."""
        if spare := self._spare():
            tokens, path = repeat_last(tokens, spare), repeat_last(path, spare)
        bias = self._own_bias(path)
        hidden = self._model.decoder.embed_tokens(tokens)  # (R, B, D)
        for block, cache, cross in zip(self._model.decoder.block, self._cache, self._cross, strict=True):
            hidden = hidden + self._self_attention(block.layer[0], hidden, cache, bias)
            hidden = hidden + self._cross_attention(block.layer[1], hidden, cross)
            hidden = block.layer[2](hidden)
        hidden = self._model.decoder.final_layer_norm(hidden)
        if self._model.config.scale_decoder_outputs:
            hidden = hidden * self._model.model_dim**-0.5
        self._steps += 1
        return word_logits(self._model, hidden)[: self._regions]

    def keep(self, rows: Tensor) -> None:
        """As in `beam_search.Stepper`."""
        self._regions = len(rows)
        if spare := self._spare():
            rows = repeat_last(rows, spare)
        self._cache = [(keys[rows], values[rows]) for keys, values in self._cache]
        self._cross = [(keys[rows], values[rows]) for keys, values in self._cross]
        self._encoder_bias = self._encoder_bias[rows]

    def _spare(self) -> int:
        """How many rows of padding the batch needs."""
        return max(0, self._least - self._regions)

    def _self_attention(self, layer: Any, hidden: Tensor, cache: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        attention, normed = layer.SelfAttention, layer.layer_norm(hidden)
        start, stop = self._steps * self._beams, (self._steps + 1) * self._beams
        keys, values = cache
        keys[:, :, start:stop] = self._split(attention.k(normed))
        values[:, :, start:stop] = self._split(attention.v(normed))
        query = self._split(attention.q(normed))
        found = F.scaled_dot_product_attention(query, keys[:, :, :stop], values[:, :, :stop], attn_mask=bias, scale=1.0)
        return self._join(attention.o, found)

    def _cross_attention(self, layer: Any, hidden: Tensor, cross: tuple[Tensor, Tensor]) -> Tensor:
        attention = layer.EncDecAttention
        query = self._split(attention.q(layer.layer_norm(hidden)))  # the beams of a region are its queries
        found = F.scaled_dot_product_attention(query, *cross, attn_mask=self._encoder_bias, scale=1.0)
        return self._join(attention.o, found)

    def _own_bias(self, path: Tensor) -> Tensor:
        """(R, heads, B, (N + 1) * B): the position bias at a beam's own past, -inf elsewhere."""
        places = torch.arange(self._beams, device=path.device)
        own = (path[..., None] == places).flatten(2)[:, None]  # (R, 1, B, (N + 1) * B)
        positions = self._position_bias[:, self._steps, : self._steps + 1]  # (heads, N + 1)
        spread = positions.repeat_interleave(self._beams, dim=1)[None, :, None]
        bias: Tensor = torch.where(own, spread, float("-inf"))
        return bias

    def _split(self, projected: Tensor) -> Tensor:
        """(R, M, heads * d) -> (R, heads, M, d)."""
        split: Tensor = projected.unflatten(-1, (self._heads, self._width))
        return split.transpose(1, 2)

    def _join(self, output: Any, found: Tensor) -> Tensor:
        """(R, heads, B, d) -> (R, B, D)."""
        joined: Tensor = output(found.transpose(1, 2).flatten(2))
        return joined

"""One more token for every row of a `DecodingState`, as work that can be recorded: no shape and no address depends on
data or on the step, and nothing waits for the device. What is computed is what `T5Steps` and `beam_search` compute.

`T5Steps` grows its attention with the steps and drops rows that ended, which suits a CPU; here attention always looks
at all places, those to come masked, and rows that ended are computed along without effect. That costs a GPU nothing: a
step's time is that of reading the weights.

Shapes: R = rows, B = beams, L = the most steps, P = places for steps, D = model width, d = channels of a head,
Y = vocabulary.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

from dynrefer.model.networks.generation.beam_search import (
    SearchSettings,
    SpecialTokens,
    extend,
    may_improve,
    penalise,
)
from dynrefer.model.networks.generation.decoding_state import DecodingState
from dynrefer.model.networks.generation.t5_stepper import word_logits
from dynrefer.model.networks.kernels.attention import Attention, AttentionInputs, torchs_choice
from dynrefer.model.networks.kernels.merged_products import MergedProduct
from dynrefer.model.networks.kernels.onednn import linear
from dynrefer.model.networks.kernels.rms_norm import AddNorm, add_and_norm


class StaticStep:
    """The step of one model and one search.

    model: a `T5ForConditionalGeneration`. state: whose first rows a call moves on by one token.
    attention: what computes attention; the same for all layers. add_norm: what adds a layer's part and norms the sum.
    Both may be replaced before the step is recorded.
    """

    def __init__(self, model: Any, state: DecodingState, settings: SearchSettings, special: SpecialTokens) -> None:
        self._model, self._state, self._settings, self._special = model, state, settings, special
        self.attention: Attention = torchs_choice
        self.add_norm: AddNorm = add_and_norm
        self._blocks = [_Block(block, model.config) for block in model.decoder.block]
        device, steps = state.step.device, settings.max_new_tokens
        self._beam = torch.arange(settings.num_beams, device=device)
        self._row = torch.arange(len(state.step), device=device)[:, None]
        self._place = torch.arange(steps + 1, device=device)
        norms = [float(step + 1) ** settings.length_penalty for step in range(steps)]
        self._norm = torch.tensor(norms, dtype=torch.float32).to(device)
        self._position_bias = self._biases()

    def attention_inputs(self) -> tuple[AttentionInputs, AttentionInputs]:
        """What a layer's self-attention and its cross-attention compute of all rows, in their memory layout."""
        state, beams = self._state, self._settings.num_beams
        _, _, rows, heads, _, width = state.own.shape
        numbers = torch.arange(rows * beams * 3 * heads * width, device=state.own.device)
        projected = numbers.sin().to(state.own.dtype).view(rows, beams, 3, heads, width)  # with keys and values
        query, own = projected[:, :, 0].transpose(1, 2), self._own_bias(state)
        return (
            AttentionInputs(query, state.own[0, 0], state.own[0, 1], own),
            AttentionInputs(query, state.cross[0, 0], state.cross[0, 1], state.encoder_bias),
        )

    def add_norm_inputs(self) -> tuple[Tensor, Tensor, Any]:
        """What a layer adds and norms, of all rows."""
        norm = self._blocks[0].cross_norm
        shape = len(self._state.step), self._settings.num_beams, norm.weight.shape[0]
        numbers = torch.arange(shape[0] * shape[1] * shape[2], device=norm.weight.device).sin().view(shape)
        return numbers.to(norm.weight.dtype), numbers.cos().to(norm.weight.dtype), norm

    def _biases(self) -> Tensor:
        """(L, heads, 1, P * B): at each step the position bias of every place, -inf at those to come."""
        steps, places = self._settings.max_new_tokens, self._state.path.shape[2]
        own = self._model.decoder.block[0].layer[0].SelfAttention
        with torch.no_grad():
            bias = own.compute_bias(steps, places, device=self._state.step.device)[0].transpose(0, 1)
        to_come = torch.ones((steps, places), dtype=torch.bool, device=bias.device).triu(1)
        bias = bias.masked_fill(to_come[:, None], float("-inf"))
        found: Tensor = bias.repeat_interleave(self._settings.num_beams, dim=-1)[:, :, None]
        return found

    @torch.inference_mode()
    def __call__(self, rows: int) -> None:
        """One more token for the first rows that go on; the others stay as they are."""
        state = self._state.first(rows)
        step, going = state.step, state.going.clone()
        at = step[:, None, None].expand(-1, self._settings.num_beams, 1)  # (R, B, 1)
        state.path.scatter_(2, at, self._beam[None, :, None].expand_as(at))
        logits = self._logits(state, state.tokens.gather(2, at)[..., 0])
        seen = state.tokens.where(self._place <= step[:, None, None], state.tokens[:, :, :1])  # the start token is seen
        last = step + 1 == self._settings.max_new_tokens
        if self._settings.num_beams == 1:
            self._extend_greedily(state, logits[:, 0], seen[:, 0], going, last)
        else:
            self._extend_beams(state, logits, seen, going, last)
        step.add_(state.going)

    def _extend_beams(self, state: DecodingState, logits: Tensor, seen: Tensor, going: Tensor, last: Tensor) -> None:
        """As `beam_search.search` does: logits (R, B, Y), seen (R, B, L + 1), going and last (R,)."""
        chances = logits.log_softmax(-1)
        penalise(chances, seen, self._settings.repetition_penalty)
        self._forbid_early_end(chances, state.step[:, None])
        beams, norm = state.beams(), self._norm[state.step]
        extend(beams, chances, state.step + 1, norm[:, None], self._special, last=last[:, None])
        state.going.copy_(going & ~last & may_improve(beams, norm))
        for name, found in vars(beams).items():
            kept = getattr(state, name)
            torch.where(going.view(-1, *[1] * (found.ndim - 1)), found, kept, out=kept)

    def _extend_greedily(self, state: DecodingState, logits: Tensor, seen: Tensor, going: Tensor, last: Tensor) -> None:
        """As `beam_search.greedy` does: logits (R, Y), seen (R, L + 1), going and last (R,)."""
        penalise(logits, seen, self._settings.repetition_penalty)
        self._forbid_early_end(logits, state.step)
        chance, token = logits.log_softmax(-1).max(dim=-1)
        state.score.add_(torch.where(going, chance, 0.0)[:, None])
        place, tokens = (state.step + 1)[:, None], state.tokens[:, 0]
        tokens.scatter_(1, place, torch.where(going, token, tokens.gather(1, place)[:, 0])[:, None])
        state.going.copy_(going & ~last & (token != self._special.end))

    def _forbid_early_end(self, scores: Tensor, step: Tensor) -> None:
        """In place: no end token before the least length; scores (..., Y), step (...) or broadcast."""
        if self._settings.min_length > 1:
            of_end = scores[..., self._special.end]
            of_end.masked_fill_(step + 1 < self._settings.min_length, float("-inf"))

    def _logits(self, state: DecodingState, tokens: Tensor) -> Tensor:
        """tokens (R, B) of each row's step -> (R, B, Y) float32."""
        beams, decoder = self._settings.num_beams, self._model.decoder
        rows = self._row[: len(tokens)]
        places = state.step[:, None] * beams + self._beam  # (R, B), where this step's keys and values go
        bias = self._own_bias(state)
        hidden = decoder.embed_tokens(tokens)  # (R, B, D)
        normed = self._blocks[0].own_norm(hidden)
        following = [*(block.own_norm for block in self._blocks[1:]), decoder.final_layer_norm]
        for block, own, cross, norm in zip(self._blocks, state.own, state.cross, following, strict=True):
            found = block.self_attention(self.attention, normed, own, rows, places, bias)
            hidden, normed = self.add_norm(hidden, found, block.cross_norm)
            found = block.cross_attention(self.attention, normed, cross, state.encoder_bias)
            hidden, normed = self.add_norm(hidden, found, block.forward_norm)
            hidden, normed = self.add_norm(hidden, block.feed_forward(normed), norm)
        hidden = normed
        if self._model.config.scale_decoder_outputs:
            hidden = hidden * self._model.model_dim**-0.5
        return word_logits(self._model, hidden)

    def _own_bias(self, state: DecodingState) -> Tensor:
        """(R, heads, B, P * B): the position bias at a beam's own past, -inf elsewhere."""
        came_by = (state.path[..., None] == self._beam).flatten(2)[:, None]  # (R, 1, B, P * B)
        bias: Tensor = torch.where(came_by, self._position_bias[state.step], float("-inf"))
        return bias


class _Block:
    """A layer of the decoder, its products merged where their weights are."""

    def __init__(self, block: Any, config: Any) -> None:
        self._sizes = (config.num_heads, config.d_kv)
        self._own, self._cross, self._feed_forward = block.layer
        self.own_norm, self.cross_norm, self.forward_norm = (layer.layer_norm for layer in block.layer)
        own = self._own.SelfAttention
        self._query_key_value = MergedProduct(own.q, own.k, own.v)
        dense = self._feed_forward.DenseReluDense
        self._gated = MergedProduct(dense.wi_0, dense.wi_1) if isinstance(dense, T5DenseGatedActDense) else None

    def self_attention(
        self, attention: Attention, normed: Tensor, cache: Tensor, rows: Tensor, places: Tensor, bias: Tensor
    ) -> Tensor:
        """normed (R, B, D); cache (2, R, heads, P * B, d), which gets this step's keys and values at places (R, B)."""
        projected = self._query_key_value(normed).unflatten(-1, (3, *self._sizes))
        cache[:, rows, :, places] = projected[:, :, 1:]  # (R, B, 2, heads, d): indices in front, as torch has it
        query = projected[:, :, 0].transpose(1, 2)  # (R, heads, B, d)
        found = attention(query, cache[0], cache[1], bias)
        return linear(found.transpose(1, 2).flatten(2), self._own.SelfAttention.o)

    def cross_attention(self, attention: Attention, normed: Tensor, cross: Tensor, bias: Tensor) -> Tensor:
        """normed (R, B, D); cross (2, R, heads, S, d); bias (R, 1, 1, S). The beams of a region are its queries."""
        layer = self._cross.EncDecAttention
        query = linear(normed, layer.q).unflatten(-1, self._sizes).transpose(1, 2)
        found = attention(query, cross[0], cross[1], bias)
        return linear(found.transpose(1, 2).flatten(2), layer.o)

    def feed_forward(self, normed: Tensor) -> Tensor:
        """normed (R, B, D)."""
        dense = self._feed_forward.DenseReluDense
        if self._gated is None:
            found: Tensor = dense(normed)
            return found
        gate, value = self._gated(normed).chunk(2, dim=-1)
        return linear(dense.act(gate) * value, dense.wo)

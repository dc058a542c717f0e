"""Everything that decoding changes, in tensors of fixed shape: one row per region, each at a step of its own.

Shapes: R = rows, B = beams, L = the most steps, P = L rounded up for the kernels of attention, S = encoder tokens,
d = channels of a head.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.generation.beam_search import NEVER, Beams, SearchSettings, SpecialTokens
from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt, cross_shape

_ALIGNED = 8  # a GPU's attention copies a bias whose rows are not of a multiple of this


@dataclass(frozen=True)
class DecodingState:
    """Rows of a decoder. What no region occupies is finite and does not go on, so it may be computed along.

    tokens, done_tokens: (R, B, L + 1) int64. score, done_score: (R, B) float32. path: (R, B, P) int64.
    step: (R,) int64, which of its tokens a row computes next. going: (R,) bool. encoder_bias: (R, 1, 1, S), 0 or -inf.
    own: (layers, 2, R, heads, P * B, d), self-attention's keys and values, step by step.
    cross: (layers, 2, R, heads, S, d), the encoder's.
    """

    tokens: Tensor
    score: Tensor
    path: Tensor
    done_tokens: Tensor
    done_score: Tensor
    step: Tensor
    going: Tensor
    encoder_bias: Tensor
    own: Tensor
    cross: Tensor

    @classmethod
    def empty(
        cls, model: Any, rows: int, encoder_length: int, settings: SearchSettings, special: SpecialTokens
    ) -> "DecodingState":
        """On the device and in the dtype of `model`, a `T5ForConditionalGeneration`."""
        like, beams = model.lm_head.weight, settings.num_beams
        steps = _aligned_steps(settings.max_new_tokens, beams)
        own, cross = (cross_shape(model, rows, length) for length in (steps * beams, encoder_length))
        tokens = torch.full((rows, beams, settings.max_new_tokens + 1), special.padding, device=like.device)
        score = torch.full((rows, beams), NEVER, device=like.device)
        return cls(
            tokens,
            score,
            torch.zeros((rows, beams, steps), dtype=torch.int64, device=like.device),
            tokens.clone(),
            score.clone(),
            torch.zeros(rows, dtype=torch.int64, device=like.device),
            torch.zeros(rows, dtype=torch.bool, device=like.device),
            torch.zeros((rows, 1, 1, encoder_length), dtype=like.dtype, device=like.device),
            torch.zeros(own, dtype=like.dtype, device=like.device),
            torch.zeros(cross, dtype=like.dtype, device=like.device),
        )

    def first(self, rows: int) -> "DecodingState":
        """The same memory, of the first rows alone."""
        return DecodingState(*(each.narrow(axis, 0, rows) for each, axis in self._with_row_axis()))

    def beams(self) -> Beams:
        """The sequences; what assigns to its fields changes nothing here."""
        return Beams(self.tokens, self.score, self.path, self.done_tokens, self.done_score)

    def changing(self) -> list[Tensor]:
        """What a step changes: all but what belongs to the encoder."""
        return [each for each, _ in self._with_row_axis() if each is not self.encoder_bias and each is not self.cross]

    def begin(self, start: int, prompt: EncodedPrompt, special: SpecialTokens) -> None:
        """Rows from `start` on, one per prompt: nothing decoded yet.

        Caches are cleared and not only masked: a region that ended in NaN would spoil those that come after it.
        """
        prompt.wait()
        rows, length = slice(start, start + len(prompt)), prompt.bias.shape[-1]
        self.tokens[rows] = special.padding
        self.tokens[rows, :, 0] = special.start
        self.done_tokens[rows] = special.padding
        self.score[rows] = NEVER
        self.score[rows, 0] = 0.0  # all beams start equal, so only the first is continued
        self.done_score[rows] = NEVER
        self.path[rows] = 0
        self.step[rows] = 0
        self.going[rows] = True
        self.own[:, :, rows] = 0.0
        self.encoder_bias[rows, ..., :length] = prompt.bias
        self.encoder_bias[rows, ..., length:] = float("-inf")
        self.cross[:, :, rows, :, :length] = prompt.cross
        self.cross[:, :, rows, :, length:] = 0.0

    def invent(self) -> None:
        """Rows as they might be, each at another step; the same every time."""
        for each in (self.own, self.cross):
            numbers = torch.arange(each[0, 0, 0].numel(), device=each.device)
            each.copy_(numbers.sin().view(each.shape[3:]))  # (heads, places, d), the same for every layer and row
        rows, beams, length = self.tokens.shape
        self.tokens.copy_(2 + torch.arange(self.tokens.numel(), device=self.tokens.device).view_as(self.tokens) % 30)
        self.path.copy_(torch.arange(self.path.numel(), device=self.path.device).view_as(self.path) % beams)
        self.done_score.fill_(NEVER)
        self.encoder_bias.zero_()
        self.score.copy_(-torch.arange(beams, dtype=torch.float32, device=self.score.device).expand(rows, -1))
        self.step.copy_(torch.arange(rows, device=self.step.device) % (length - 1))
        self.going.fill_(True)

    def move(self, sources: Tensor, targets: Tensor) -> None:
        """Copy rows: int64 indices (N,) on the state's device, no row both a source and a target."""
        for each, axis in self._with_row_axis():
            each.index_copy_(axis, targets, each.index_select(axis, sources))

    def stop(self, start: int, stop: int) -> None:
        """Let rows start ... stop - 1 go on no longer."""
        self.going[start:stop] = False

    def _with_row_axis(self) -> Iterator[tuple[Tensor, int]]:
        for each in vars(self).values():
            yield each, 2 if each is self.own or each is self.cross else 0


def _aligned_steps(steps: int, beams: int) -> int:
    """The least number from `steps` on that times the beams is a multiple of `_ALIGNED`."""
    multiple = _ALIGNED // math.gcd(_ALIGNED, beams)
    return -(-steps // multiple) * multiple

"""Beam search over a language model that can take one step: the same sequences and scores as transformers' own.

It does less work: only a step's best continuations are kept, a region's encoder keys are not repeated per beam, no
cache is reordered (a beam records the path it came by), and finished rows leave the batch.

Shapes: R = regions, B = beams, N = steps so far, L = the most steps, K = continuations considered, Y = vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dynrefer.model.errors import StoppedError

NEVER = -1e9  # a score that no sequence reaches
_BLOCK = 128  # a row's best values lie in the blocks of largest maximum, so a row is read once, not sorted
_SHRINK_AT = 0.75  # rows leave once at most this proportion continues: removing rows copies the caches


@dataclass(frozen=True)
class SearchSettings:
    """num_beams 1 is greedy search. min_length counts the start token, as transformers does."""

    num_beams: int
    max_new_tokens: int
    min_length: int
    length_penalty: float
    repetition_penalty: float
    num_return_sequences: int = 1


@dataclass
class WordLimit:
    """At most so many words in a row's sequences: with the last of them a sequence ends.

    starts: (Y,) bool, which tokens begin a word. most: (R,) int64, at least 1. end: the token that ends a sequence.
    A last word of several tokens is written to its end: as long as the likeliest token of all continues it. Shorter
    sequences are remembered even where longer ones lead, because those may have to end where nobody would.
    """

    starts: Tensor
    most: Tensor
    end: int

    def apply(self, scores: Tensor, tokens: Tensor) -> None:
        """Rule out, in place, what goes beyond the limit; scores (R, ..., Y), tokens so far (R, ..., N)."""
        words = self.starts[tokens].sum(dim=-1)
        full = words >= self.most.view(-1, *[1] * (words.dim() - 1))
        likeliest = scores.argmax(dim=-1)
        ends = self.starts[likeliest] | (likeliest == self.end)
        score_of_end = scores[..., self.end].clone()
        scores.masked_fill_(full[..., None] & (self.starts | ends[..., None]), float("-inf"))
        scores[..., self.end] = score_of_end

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows (M,) int64 alone."""
        self.most = self.most[rows]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that a sequence starts with, is padded with, and ends with."""

    start: int
    padding: int
    end: int


class Stepper(Protocol):
    """A language model with its caches, one row per region."""

    def step(self, tokens: Tensor, path: Tensor) -> Tensor:
        """tokens (R, B) int64 of step N, path (R, B, N + 1) int64: in which beam's place each beam's earlier tokens
        (and this one) were computed -> logits (R, B, Y)."""

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows (M,) int64 alone."""


@dataclass
class Beams:
    """Sequences of live rows: running ones and the best finished ones so far, best first.

    tokens: (R, B, L + 1). score: (R, B) float32. path: (R, B, L). done_*: the finished ones; a slot that is still
    empty has the score -1e9.
    """

    tokens: Tensor
    score: Tensor
    path: Tensor
    done_tokens: Tensor
    done_score: Tensor

    def keep(self, rows: Tensor) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


def search(
    stepper: Stepper,
    rows: int,
    settings: SearchSettings,
    special: SpecialTokens,
    device: torch.device,
    should_stop: Callable[[], bool] | None = None,
    limit: WordLimit | None = None,
) -> tuple[Tensor, Tensor]:
    """The best sequences of every row: tokens (R * returned, L + 1) int64, padded; score (R * returned,) float32.

    The score is the sum of (penalised) log-probabilities over length ** length_penalty; below -1e8 where there are not
    so many sequences.
    should_stop: polled before every step; `StoppedError` if it returns true.
    """
    beams, row = start(rows, settings, special, device), torch.arange(rows, device=device)
    found = beams.done_tokens.clone(), beams.done_score.clone()
    for step in range(settings.max_new_tokens):
        if should_stop and should_stop():
            raise StoppedError("the batch was cancelled: no client waits for its captions.")
        last = step + 1 == settings.max_new_tokens
        _advance(beams, stepper, step, settings, special, limit, last=last)
        going = may_improve(beams, (step + 1) ** settings.length_penalty)
        found[0][row], found[1][row] = beams.done_tokens, beams.done_score
        if last or not (live := int(going.sum())):
            break
        if live <= _SHRINK_AT * len(going):
            kept = going.nonzero().squeeze(1)
            row = row[kept]
            beams.keep(kept)
            stepper.keep(kept)
            if limit is not None:
                limit.keep(kept)
        elif live < len(going):
            # Finished rows stay in the batch for now, but may gain no further sequence.
            beams.score[~going] = NEVER
    returned = settings.num_return_sequences
    return found[0][:, :returned].flatten(0, 1), found[1][:, :returned].flatten()


def start(rows: int, settings: SearchSettings, special: SpecialTokens, device: torch.device) -> Beams:
    """Every sequence consists of the start token; none is finished."""
    beams, length = settings.num_beams, settings.max_new_tokens
    tokens = torch.full((rows, beams, length + 1), special.padding, device=device)
    tokens[:, :, 0] = special.start
    score = torch.full((rows, beams), NEVER, device=device)
    done_score = score.clone()
    score[:, 0] = 0.0  # all beams start equal, so only the first is continued
    path = torch.zeros((rows, beams, length), dtype=torch.int64, device=device)
    return Beams(tokens, score, path, tokens.clone(), done_score)


def _advance(
    beams: Beams,
    stepper: Stepper,
    step: int,
    settings: SearchSettings,
    special: SpecialTokens,
    limit: WordLimit | None = None,
    *,
    last: bool,
) -> None:
    """One step of the model, and one more token for every running sequence."""
    beams.path[:, :, step] = torch.arange(settings.num_beams, device=beams.path.device)
    logits = stepper.step(beams.tokens[:, :, step], beams.path[:, :, : step + 1])
    chances = logits.float().log_softmax(-1)
    penalise(chances, beams.tokens[:, :, : step + 1], settings.repetition_penalty)
    if step + 1 < settings.min_length:
        chances[..., special.end] = float("-inf")
    if limit is not None:
        limit.apply(chances, beams.tokens[:, :, 1 : step + 1])
    extend(
        beams, chances, step + 1, (step + 1) ** settings.length_penalty, special, last=last, all_ends=limit is not None
    )


def extend(
    beams: Beams,
    chances: Tensor,
    place: int | Tensor,
    norm: float | Tensor,
    special: SpecialTokens,
    *,
    last: bool | Tensor,
    all_ends: bool = False,
) -> None:
    """One more token for every running sequence; those that end join the finished ones.

    chances: (R, B, Y) float32 log-probabilities. place: of the new token in the sequences, for all rows or (R,) int64.
    norm: what the score of a sequence that ends here is divided by, for all rows or (R, 1) float32.
    last: whether every sequence ends here, for all rows or (R, 1) bool.
    all_ends: whether a sequence may end although B others lead it; else as transformers has it.
    """
    count = beams.score.shape[1]
    values, ids = highest(chances, 2 * count)  # twice as many as beams, since half of them may end
    total = (values + beams.score[..., None]).flatten(1)
    total, order = total.topk(2 * count, dim=1)
    source, token = order // ids.shape[2], ids.flatten(1).gather(1, order)
    tokens = _pick(beams.tokens, source)
    if isinstance(place, int):
        tokens[:, :, place] = token
    else:
        tokens.scatter_(2, place[:, None, None].expand(*token.shape, 1), token[..., None])
    ended = token == special.end
    if last is not False:
        ended = ended | last
    finished = torch.where(ended, total / norm, NEVER)
    if not all_ends:
        # Only those among the best B count; the others were considered to have B that continue.
        finished[:, count:].fill_(NEVER)
    merged, places = torch.cat((beams.done_score, finished), dim=1).topk(count, dim=1)
    beams.done_tokens = _pick(torch.cat((beams.done_tokens, tokens), dim=1), places)
    beams.done_score = merged
    beams.score, places = torch.where(ended, total + NEVER, total).topk(count, dim=1)
    beams.tokens, beams.path = _pick(tokens, places), _pick(beams.path, source.gather(1, places))


def may_improve(beams: Beams, norm: float | Tensor) -> Tensor:
    """Which rows' running sequences may yet become one of the best; (R,) bool.

    norm: as in `extend`, for all rows or (R,) float32.
    """
    # Scores only fall, so this bounds what a running sequence can reach. transformers compares the same way.
    best_running = beams.score[:, 0] / norm
    full = (beams.done_score > NEVER / 2).all(dim=1)
    going: Tensor = ~full | (best_running > beams.done_score.amin(dim=1))
    return going


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values (R, M, L) at index (R, K) along the second axis -> (R, K, L)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def penalise(scores: Tensor, seen: Tensor, penalty: float) -> None:
    """Make tokens that occurred less likely, in place, as transformers does; scores (..., Y), seen (..., N)."""
    if penalty == 1.0:
        return
    chosen = scores.gather(-1, seen)
    scores.scatter_(-1, seen, torch.where(chosen < 0, chosen * penalty, chosen / penalty))


def highest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best of each row, best first, as `topk` gives them: (..., Y) -> values and indices (..., count)."""
    size = scores.shape[-1]
    if size % _BLOCK or size // _BLOCK < 4 * count:
        return scores.topk(min(count, size), dim=-1)
    blocks = scores.unflatten(-1, (-1, _BLOCK))
    block = blocks.amax(-1).topk(count, dim=-1).indices  # (..., count)
    inside = blocks.gather(-2, block[..., None].expand(*block.shape, _BLOCK)).flatten(-2)
    values, place = inside.topk(count, dim=-1)
    return values, block.gather(-1, place // _BLOCK) * _BLOCK + place % _BLOCK


def greedy(
    stepper: Stepper,
    rows: int,
    settings: SearchSettings,
    special: SpecialTokens,
    device: torch.device,
    should_stop: Callable[[], bool] | None = None,
    limit: WordLimit | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest token at every step: tokens (R, L + 1) int64, padded; sum of log-probabilities (R,) float32.

    As in transformers the repetition penalty acts on logits here, in beam search on log-probabilities.
    """
    beams = start(rows, settings, special, device)
    tokens, total = beams.tokens[:, 0], beams.score[:, 0]
    running = torch.ones(rows, dtype=torch.bool, device=device)
    for step in range(settings.max_new_tokens):
        if should_stop and should_stop():
            raise StoppedError("the batch was cancelled: no client waits for its captions.")
        logits = stepper.step(tokens[:, step, None], beams.path[:, :, : step + 1])[:, 0].float()
        penalise(logits, tokens[:, : step + 1], settings.repetition_penalty)
        if step + 1 < settings.min_length:
            logits[:, special.end] = float("-inf")
        if limit is not None:
            limit.apply(logits, tokens[:, 1 : step + 1])
        chance, token = logits.log_softmax(-1).max(dim=-1)
        total = total + torch.where(running, chance, 0.0)
        tokens[:, step + 1] = torch.where(running, token, special.padding)
        running &= token != special.end
        if not bool(running.any()):
            break
    return tokens, total

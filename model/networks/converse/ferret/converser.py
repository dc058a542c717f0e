"""Ferret-v2 behind `conversing.Converser`: answers in pieces, from features and keys that are kept where there is room.

On a CPU one conversation is decoded after the other: a row of a batch may be rounded differently, and there is little
to gain. On a GPU a step reads all weights whatever the number of conversations, so up to 16 take it together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.cache import ByteCache
from dynrefer.model.conversation import AnswerProbability, Finish, Reply
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import ConversationError, OutputError, raise_if_stopped
from dynrefer.model.networks.converse.ferret.config import FerretConfig
from dynrefer.model.networks.converse.ferret.key_values import JoinedKeyValues, KeyValues
from dynrefer.model.networks.converse.ferret.network import FerretModel, ImageFeatures
from dynrefer.model.networks.converse.ferret.preparation import FerretSpec
from dynrefer.model.networks.converse.ferret.prompt import Key, Prompt, PromptReader, common_beginning, embedded
from dynrefer.model.networks.converse.ferret.text import PromptWords, prompt_parts, read_answer

TOGETHER = 16  # conversations of a step on a GPU
CPU_CACHE_BYTES = 1 << 29
_FEATURES_SHARE = 8  # of the cache's bytes, one part of so many is for images' features
_LATEST_BYTES = 1 << 16


@dataclass
class _Conversation:
    """What is known of a conversation on the device. keys: of the places whose keys and values `values` has."""

    keys: tuple[Key, ...]
    values: KeyValues


@dataclass
class _Row:
    """A turn that is being answered. logits: (Y,) float32 behind all that is known."""

    turn: ConverseTurn
    prompt: Prompt
    state: _Conversation
    logits: Tensor
    written: list[int]
    limit: int
    left: int = field(default=0)  # tokens of this piece

    def going(self, end: int) -> bool:
        """Whether it may have another token now."""
        return self.left > 0 and len(self.written) < self.limit and self.written[-1:] != [end]


class FerretConverser:
    """A `Converser`. cache_bytes: of features, keys and values that are kept between calls. together: conversations
    that take a step of the language model together."""

    def __init__(
        self, model: FerretModel, tokenizer: Any, *, cache_bytes: int = CPU_CACHE_BYTES, together: int = 1
    ) -> None:
        self._model, self._tokenizer, self._together = model, tokenizer, together
        config: FerretConfig = model.config
        language = config.language_config.get_text_config()
        self._end = _first(language.eos_token_id)
        begin = tokenizer.bos_token_id
        self._reader = PromptReader(tokenizer, begin, self._end)
        self._words = PromptWords(config.system, config.user, config.assistant, config.ground_request)
        self._layers, self._places = language.num_hidden_layers, language.max_position_embeddings
        self._features: ByteCache[ImageFeatures] = ByteCache(cache_bytes // _FEATURES_SHARE)
        self._states: ByteCache[_Conversation] = ByteCache(cache_bytes - cache_bytes // _FEATURES_SHARE)
        self._latest: ByteCache[bytes] = ByteCache(_LATEST_BYTES)  # an image's digest -> its last conversation's
        self.spec: FerretSpec = config.spec
        self.max_tokens: int = config.max_answer_tokens

    @property
    def num_bytes(self) -> int:
        """Of images' features, keys and values."""
        return self._features.stats.bytes + self._states.stats.bytes

    @torch.inference_mode()
    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """See `Converser`. Raises `ConversationError` for a conversation that is too long, `OutputError`."""
        try:
            found: list[Spoken] = []
            for start in range(0, len(turns), self._together):
                found += self._pieces(turns[start : start + self._together], should_stop)
            return found
        except torch.OutOfMemoryError:
            self.forget()  # whoever asks again finds the room
            raise

    def forget(self) -> None:
        """Empty the cache."""
        for cache in (self._features, self._states, self._latest):
            cache.clear()

    def _pieces(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        rows: list[_Row] = []
        chosen: dict[int, Spoken] = {}
        for place, turn in enumerate(turns):
            raise_if_stopped(should_stop)
            row = self._begun(turn, [each.state for each in rows])
            if turn.conversation.answers:
                chosen[place] = self._choice(row, should_stop)
            else:
                rows.append(row)
        self._decode(rows, should_stop)
        for row in rows:
            self._keep(row)
        spoken = iter(rows)
        return [chosen[place] if place in chosen else self._spoken(next(spoken)) for place in range(len(turns))]

    def _begun(self, turn: ConverseTurn, taken: Sequence[_Conversation]) -> _Row:
        """The turn with everything computed that is known of it. taken: what other turns of the batch write into."""
        conversation = turn.conversation
        rows, columns = self.spec.cells(turn.size)
        whole = (self.spec.side // self._model.config.whole_config.patch_size) ** 2
        image = whole + rows * columns if self.spec.grids else whole
        prompt = self._reader.prompt(list(prompt_parts(conversation, turn.size, self._words)), image)
        longest = max((len(self._answer(each)) for each in conversation.answers), default=1)
        if len(prompt.keys) + longest > self._places:
            raise ConversationError(
                f"The conversation has {len(prompt.keys)} tokens, {image} of them the image; {self._places - longest} "
                "may be read: leave early messages out.",
                "messages",
            )
        limit = min(conversation.max_tokens, self.max_tokens, self._places - len(prompt.keys))
        keys = prompt.then(turn.written)
        state, known = self._recalled(turn, prompt, keys, taken, len(prompt.keys) + max(limit, longest))
        embeddings = embedded(
            self._model,
            keys,
            known,
            lambda: self._image(turn),
            lambda digest: self._model.region_feature(self._image(turn), prompt.regions[digest], turn.size),
        )
        logits = self._step(embeddings, state.values, known)
        state.keys = keys
        return _Row(turn, prompt, state, logits[0], list(turn.written), limit, turn.piece)

    def _recalled(
        self, turn: ConverseTurn, prompt: Prompt, keys: tuple[Key, ...], taken: Sequence[_Conversation], room: int
    ) -> tuple[_Conversation, int]:
        """Keys and values of as much of the beginning as is known, and how much that is; the last place is always
        computed, since what follows it is not kept."""
        own = self._states.get(_digest(turn, prompt))
        latest = self._latest.get(turn.digest) if own is None else None
        found = own if latest is None else self._states.get(latest)
        if found is None:
            return _Conversation((), KeyValues(self._layers, room)), 0
        known = min(common_beginning(found.keys, keys), len(keys) - 1)
        if own is None or any(own is each for each in taken):
            return _Conversation(keys[:known], found.values.beginning(known, room)), known
        own.values.keep(known)
        own.keys = keys[:known]
        return own, known

    def _image(self, turn: ConverseTurn) -> ImageFeatures:
        found = self._features.get(turn.digest)
        if found is None:
            side, device = self.spec.side, self._model.device
            views = torch.from_numpy(turn.pixels).to(device).unflatten(0, (-1, side)).permute(0, 3, 1, 2)
            found = self._model.image_features(views, turn.size)
            self._features.put(turn.digest, found, found.nbytes)
        return found

    def _step(self, embeddings: Tensor, values: KeyValues, known: int) -> Tensor:
        """New places (1, L, D) behind those that are known -> logits (1, Y) float32 behind the last."""
        positions = torch.arange(known, known + embeddings.shape[1], device=embeddings.device)[None]
        output = self._model(
            embeddings, position_ids=positions, past_key_values=values, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _decode(self, rows: Sequence[_Row], should_stop: Callable[[], bool]) -> None:
        """A piece of every row: at each step the likeliest token."""
        if not rows:
            return
        steps = max(row.left for row in rows)
        joined = JoinedKeyValues([row.state.values for row in rows], steps) if rows[1:] else None
        fed = [0] * len(rows)
        while any(row.going(self._end) for row in rows):
            raise_if_stopped(should_stop)
            best, tokens = torch.stack([row.logits for row in rows]).max(dim=-1)
            if not bool(best.isfinite().all()):
                raise OutputError("the converser returned NaN or infinity for this conversation.")
            going = [row.going(self._end) for row in rows]
            for row, token, goes in zip(rows, tokens.tolist(), going, strict=True):
                if goes:
                    row.written.append(token)
                    row.left -= 1
            further = [row.going(self._end) for row in rows]
            if not any(further):
                break
            logits = self._next(rows, tokens, joined)
            for place, row in enumerate(rows):
                if further[place]:
                    row.logits = logits[place]
                    fed[place] += 1
        if joined is not None:
            joined.split(fed)

    def _next(self, rows: Sequence[_Row], tokens: Tensor, joined: JoinedKeyValues | None) -> Tensor:
        """Logits (R, Y) float32 behind new tokens (R,)."""
        embeddings = self._model.get_input_embeddings()(tokens[:, None])
        if joined is None:
            values = rows[0].state.values
            return self._step(embeddings, values, values.length)
        output = self._model(
            embeddings,
            attention_mask=joined.mask,
            position_ids=joined.positions,
            past_key_values=joined.values,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _choice(self, row: _Row, should_stop: Callable[[], bool]) -> Spoken:
        """Which of the allowed answers is likeliest, each read with its end as what is written next."""
        answers, values = row.turn.conversation.answers, row.state.values
        known, first = values.length, row.logits.log_softmax(-1)
        scores = []
        for answer in answers:
            raise_if_stopped(should_stop)
            tokens = self._answer(answer)
            embeddings = self._model.get_input_embeddings()(torch.tensor([tokens[:-1]], device=first.device))
            output = self._model(
                embeddings,
                position_ids=torch.arange(known, known + len(tokens) - 1, device=first.device)[None],
                past_key_values=values,
                use_cache=True,
            )
            chances = torch.cat((first[None], output.logits[0].float().log_softmax(-1)))
            scores.append(chances[range(len(tokens)), tokens].sum())
            values.keep(known)
        self._keep(row)
        probabilities = (torch.stack(scores) * self._model.config.answer_scale).softmax(0)
        if not bool(probabilities.isfinite().all()):
            raise OutputError("the converser returned NaN or infinity for this conversation.")
        given = [AnswerProbability(*each) for each in zip(answers, probabilities.tolist(), strict=True)]
        ranked = tuple(sorted(given, key=lambda each: -each.probability))
        written = tuple(self._answer(ranked[0].answer))
        reply = Reply(ranked[0].answer, probability=ranked[0].probability, answers=ranked, tokens=len(written))
        return Spoken(reply, written, True, len(reply.content))

    def _answer(self, answer: str) -> list[int]:
        return [*self._reader.tokens(f" {answer.strip()}"), self._end]

    def _keep(self, row: _Row) -> None:
        """Remember what was computed, all but what stands behind the last token."""
        row.state.keys = row.prompt.then(row.written)[: row.state.values.length]
        digest = _digest(row.turn, row.prompt)
        self._states.put(digest, row.state, row.state.values.nbytes)
        self._latest.put(row.turn.digest, digest, len(digest) + len(row.turn.digest))

    def _spoken(self, row: _Row) -> Spoken:
        turn = row.turn
        ended = row.written[-1:] == [self._end]
        done = ended or len(row.written) >= row.limit
        ids = row.written[:-1] if ended else row.written
        text = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        regions = {each.id for each in turn.conversation.regions}
        read = read_answer(text, turn.size, regions, ground=turn.conversation.ground, done=done)
        finish = Finish.STOP if ended or not done else Finish.LENGTH
        reply = Reply(read.content, read.grounding, finish=finish, tokens=len(row.written))
        return Spoken(reply, tuple(row.written), done, read.stable)


def _digest(turn: ConverseTurn, prompt: Prompt) -> bytes:
    return hashlib.sha256(turn.digest + repr(prompt.keys).encode()).digest()


def _first(given: int | Sequence[int]) -> int:
    return given if isinstance(given, int) else given[0]

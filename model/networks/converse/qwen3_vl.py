"""Qwen3-VL of transformers, from a directory as `save_pretrained` writes it, read without fetching anything.

The conversation is its chat format: the image in front of the first question, regions as coordinates, an instruction
behind each question (`written_questions.py`); what it writes is read back to words and boxes (`written_answers.py`). It
chooses the likeliest token each time, so that an answer is the same whenever it is asked.

Of allowed answers each is scored: softmax over the mean log-probability of their tokens. These probabilities are not
calibrated.

Shapes: L = tokens, N = tokens read now, Y = words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from dynrefer.model.conversation import AnswerProbability, Finish, Reply, Role
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import ConfigError, ConversationError, OutputError, raise_if_stopped
from dynrefer.model.loading import by_library, quiet
from dynrefer.model.model_files import read_json_object
from dynrefer.model.networks.converse.qwen3_vl_preparation import Qwen3VLSpec
from dynrefer.model.networks.converse.read_texts import ReadText, ReadTexts
from dynrefer.model.networks.finder.released import CONFIG, PREPROCESSOR, network_in, tokenizer_in
from dynrefer.model.written_answers import read_answer
from dynrefer.model.written_questions import written_conversation

WHAT = "converser"
CACHE_BYTES = 1 << 30  # of keys and values; an 8B in bfloat16 has 147 kB a token, about 190 MB a conversation
MOST_PIXELS = 1 << 20  # of the scaled image: 1,024 tokens of the language model
MAX_TOKENS = 512  # of an answer
# Of a conversation and its answer, the image among them. The released models take 262,144, whose keys and values are
# 38 GB; a request of the longest messages in letters that are several tokens each comes near to that.
MOST_READ = 16_384
_START, _END = "<|im_start|>", "<|im_end|>"
_UNFINISHED = "\ufffd"  # what a tokenizer writes for a character of which tokens are missing


@dataclass(frozen=True, slots=True)
class _Prompt:
    """ids: (L,) all tokens. after_image: the place behind the image's. grid: (1, 3) its patches, frames first."""

    ids: list[int]
    after_image: int
    grid: Tensor


class Qwen3VLConverser:
    """A `Converser`. network: of transformers' class. tokenizer: a fast one. processor: of images."""

    def __init__(self, network: Any, tokenizer: Any, processor: Any, cache_bytes: int = CACHE_BYTES) -> None:
        self._network, self._tokenizer, self._processor = network, tokenizer, processor
        self._read = ReadTexts(cache_bytes)
        self._start, self._end = (_token(tokenizer, text) for text in (_START, _END))
        stops = network.generation_config.eos_token_id
        self._stops = {self._end, tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])}
        config = network.config
        self._never = [config.image_token_id, config.video_token_id]  # would be taken for the image's when read again
        size = processor.size
        self._factor = int(processor.patch_size) * int(processor.merge_size)
        self.spec = Qwen3VLSpec(self._factor, int(size["shortest_edge"]), min(int(size["longest_edge"]), MOST_PIXELS))
        self._longest = min(MOST_READ, int(config.text_config.max_position_embeddings))
        self.max_tokens = MAX_TOKENS

    @classmethod
    def load(cls, directory: Path, device: torch.device, dtype: torch.dtype) -> Qwen3VLConverser:
        """Raises `ConfigError`, `WeightsError`, `DeviceMemoryError`."""
        read_json_object(directory / PREPROCESSOR, "settings of the converser's images")
        with quiet():
            processor = by_library(
                lambda: Qwen2VLImageProcessorPil.from_pretrained(directory, local_files_only=True),
                ConfigError,
                f"{str(directory / PREPROCESSOR)!r} cannot be read",
            )
        tokenizer = tokenizer_in(directory, WHAT)
        network = network_in(directory, WHAT, Qwen3VLForConditionalGeneration, device, dtype)
        vision = network.config.vision_config
        if (processor.patch_size, processor.merge_size) != (vision.patch_size, vision.spatial_merge_size):
            raise ConfigError(f"{str(directory / PREPROCESSOR)!r} cuts other patches than {CONFIG} beside it has.")
        if len(tokenizer) > network.config.text_config.vocab_size:
            raise ConfigError(f"the tokenizer in {str(directory)!r} has more tokens than its network.")
        return cls(network, tokenizer, processor)

    @property
    def num_bytes(self) -> int:
        """See `Converser`."""
        return self._read.num_bytes

    @torch.inference_mode()
    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """See `Converser`. One after the other. Raises `ConversationError` for a conversation that is too long."""
        return [self._piece(turn, should_stop) for turn in turns]

    def _piece(self, turn: ConverseTurn, should_stop: Callable[[], bool]) -> Spoken:
        raise_if_stopped(should_stop)
        prompt = self._prompt(turn)
        most = min(turn.conversation.max_tokens, self.max_tokens)
        if len(prompt.ids) + most > self._longest:
            raise ConversationError(
                f"The conversation and its answer have more than {self._longest} tokens: leave early messages out.",
                "messages",
            )
        tokens = [*prompt.ids, *turn.written]
        text = self._read.take(turn.digest, tokens, prompt.after_image)
        if turn.conversation.answers:
            spoken, text = self._choose(turn, prompt, text, should_stop)
        else:
            spoken, text = self._write(turn, prompt, text, most, should_stop)
        self._read.put(turn.digest, text)
        return spoken

    def _write(
        self, turn: ConverseTurn, prompt: _Prompt, text: ReadText | None, most: int, should_stop: Callable[[], bool]
    ) -> tuple[Spoken, ReadText]:
        written = list(turn.written)
        logits, text = self._go_on(turn, prompt, [*prompt.ids, *written], text)
        for _ in range(turn.piece):
            logits[-1, self._never] = -torch.inf
            chosen = int(logits[-1].argmax())
            if chosen in self._stops:
                return self._spoken(turn, written, Finish.STOP, done=True), text
            written.append(chosen)
            if len(written) >= most:
                return self._spoken(turn, written, Finish.LENGTH, done=True), text
            raise_if_stopped(should_stop)
            if len(written) - len(turn.written) < turn.piece:
                logits = self._forward(text, [chosen])
        return self._spoken(turn, written, Finish.STOP, done=False), text

    def _spoken(self, turn: ConverseTurn, written: Sequence[int], finish: Finish, *, done: bool) -> Spoken:
        said: str = self._tokenizer.decode(list(written), skip_special_tokens=False)
        said = said if done else said.rstrip(_UNFINISHED)
        answer = read_answer(said, turn.size, turn.conversation.regions, complete=done)
        grounding = answer.grounding if turn.conversation.ground else ()
        reply = Reply(answer.content, grounding, finish=finish, tokens=len(written))
        return Spoken(reply, tuple(written), done, len(answer.content))

    def _choose(
        self, turn: ConverseTurn, prompt: _Prompt, text: ReadText | None, should_stop: Callable[[], bool]
    ) -> tuple[Spoken, ReadText]:
        """The likeliest of the allowed answers."""
        logits, text = self._go_on(turn, prompt, prompt.ids, text)
        scores, lengths = [], []
        for answer in turn.conversation.answers:
            raise_if_stopped(should_stop)
            ids = [*self._ids(answer.strip()), self._end]
            rows = torch.cat([logits[-1:], self._forward(text, ids[:-1])]) if len(ids) > 1 else logits[-1:]
            text.forget(len(ids) - 1)
            chosen = rows.log_softmax(dim=-1).gather(1, torch.tensor(ids, device=rows.device)[:, None])
            scores.append(float(chosen.mean()))
            lengths.append(len(ids) - 1)
        probabilities = torch.tensor(scores, dtype=torch.float64).softmax(dim=0).tolist()
        listed = sorted(zip(turn.conversation.answers, probabilities, lengths, strict=True), key=lambda each: -each[1])
        best, probability, tokens = listed[0]
        choices = tuple(AnswerProbability(answer, value) for answer, value, _ in listed)
        return Spoken(Reply(best, (), probability, choices, tokens=tokens), (), done=True, stable=len(best)), text

    def _go_on(
        self, turn: ConverseTurn, prompt: _Prompt, tokens: Sequence[int], text: ReadText | None
    ) -> tuple[Tensor, ReadText]:
        """Read what is left of the tokens. Returns the logits after the last one, (1, Y), and all that is read."""
        if text is not None:
            return self._forward(text, tokens[len(text.tokens) :], keep=1), text
        device = self._network.device
        ids = torch.tensor([tokens], device=device)
        pixels = self._processor(images=[turn.pixels], do_resize=False, return_tensors="pt")
        kinds = (ids == self._network.config.image_token_id).int()
        places, shift = self._network.model.get_rope_index(ids, kinds, prompt.grid.to(device))
        output = self._network(
            input_ids=ids,
            position_ids=places,
            pixel_values=pixels["pixel_values"].to(device, self._network.dtype),
            image_grid_thw=prompt.grid.to(device),
            mm_token_type_ids=kinds,
            past_key_values=(values := DynamicCache()),
            use_cache=True,
            logits_to_keep=1,
        )
        return _checked(output.logits[0]), ReadText(list(tokens), values, int(shift))

    def _forward(self, text: ReadText, tokens: Sequence[int], keep: int = 0) -> Tensor:
        """Read tokens behind the image. Returns the logits after each, (N, Y) float32, or after the last `keep`: of a
        thousand tokens they are 600 MB."""
        device, start = self._network.device, len(text.tokens)
        places = torch.arange(start, start + len(tokens), device=device) + text.shift
        output = self._network(
            input_ids=torch.tensor([list(tokens)], device=device),
            position_ids=places.expand(3, 1, -1),
            past_key_values=text.values,
            use_cache=True,
            logits_to_keep=keep,
        )
        text.tokens.extend(tokens)
        return _checked(output.logits[0])

    def _prompt(self, turn: ConverseTurn) -> _Prompt:
        """The conversation in the model's chat format, up to where the answer begins."""
        config = self._network.config
        patch = int(self._processor.patch_size)
        height, width = turn.pixels.shape[:2]
        count = height * width // self._factor**2
        image = [config.vision_start_token_id, *[config.image_token_id] * count, config.vision_end_token_id]
        ids: list[int] = []
        after_image = 0
        for place, message in enumerate(written_conversation(turn.conversation, turn.size)):
            ids += [self._start, *self._ids(f"{message.role.value}\n")]
            if place == 0:
                ids += image
                after_image = len(ids)
            ids += [*self._ids(message.text), self._end, *self._ids("\n")]
        ids += [self._start, *self._ids(f"{Role.ASSISTANT.value}\n")]
        return _Prompt(ids, after_image, torch.tensor([[1, height // patch, width // patch]]))

    def _ids(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is a mark of the chat format, whatever it looks like."""
        found: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return found


def _token(tokenizer: Any, text: str) -> int:
    found = tokenizer.get_vocab().get(text)
    if found is None:
        raise ConfigError(f"the tokenizer of the converser has no {text}, of which Qwen3-VL's conversations are made.")
    return int(found)


def _checked(logits: Tensor) -> Tensor:
    """As float32. Raises `OutputError` for NaN and infinity."""
    logits = logits.float()
    if not logits.isfinite().all():
        raise OutputError("the converser returned NaN or infinity.")
    return logits

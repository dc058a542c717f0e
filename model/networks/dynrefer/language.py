"""The language decoder (D_llm): region representation and control words -> a caption. This is the paper's, with a
sequence-to-sequence model; `causal_language.py` has the difference of a model that continues a text. No other file of
the network depends on which language model it is.

Source: paper, section 3.3. Shapes: R = regions, Q = region tokens, W = control tokens, L = caption tokens,
C = channels, D = model width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5ForConditionalGeneration

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.config_values import check_token_ids
from dynrefer.model.networks.generation.beam_search import (
    SearchSettings,
    SpecialTokens,
    Stepper,
    WordLimit,
    greedy,
    search,
)
from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt, encode_prompt
from dynrefer.model.networks.generation.slots import DecodingSlots, Finished, decode
from dynrefer.model.networks.generation.t5_stepper import T5Steps
from dynrefer.model.networks.kernels.batch_invariance import CONTROL_MULTIPLE
from dynrefer.model.networks.kernels.graphs import Graphs

IGNORED = -100  # label of a position that does not count in the loss


@dataclass(frozen=True)
class Generated:
    """tokens: (R, L) int64 with the start token in front, padded. score: (R,) as the beam search ranks it.

    logprob_sum: (R,) sum of the log-probabilities of the generated tokens, end token included. length: (R,) tokens.
    """

    tokens: Tensor
    score: Tensor
    logprob_sum: Tensor
    length: Tensor


class UntiedT5(T5ForConditionalGeneration):
    """T5 whose head is its own matrix, as in Flan-T5; transformers 5 would tie it to the embedding on load."""

    _tied_weights_keys = {
        "encoder.embed_tokens.weight": "shared.weight",
        "decoder.embed_tokens.weight": "shared.weight",
    }


class LanguageDecoder(nn.Module):
    """Linear(C -> D) of the region tokens, then the control words' embeddings + a learned vector, into a
    sequence-to-sequence model's encoder.

    decodes_in_slots: whether `open_slots` gives any; else captions are written in whole batches alone.
    """

    decodes_in_slots = True

    def __init__(self, config: DynReferConfig) -> None:
        super().__init__()
        language = config.language_config
        self.generation = dict(config.generation or {})
        self.projection = nn.Linear(config.qformer_config.hidden_size, language.hidden_size)
        self.control_memory = nn.Parameter(torch.zeros(language.hidden_size))
        self.adds_control_memory = config.add_control_memory
        self.model: Any = self._language_model(config)  # transformers types `generate` for other classes than this
        self._longest_prompt = _rounded_up(config.num_queries + _rounded_up(config.max_control_tokens))

    @staticmethod
    def _language_model(config: DynReferConfig) -> nn.Module:
        """With random weights. Raises `ConfigError` for a configuration that this decoder cannot have."""
        language = config.language_config
        if not isinstance(language, T5Config):
            raise ConfigError(f"language_config.model_type {language.model_type!r} is not supported; use t5 or llama.")
        check_token_ids("language_config", language)
        cls = T5ForConditionalGeneration if config.tie_language_head else UntiedT5
        return cls(language)

    def prompt(self, representation: Tensor, control_ids: Tensor, control_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The language model's input: embeddings (R, Q + W, D) and attention mask (R, Q + W).

        representation: (R, Q, C). control_ids, control_mask: (R, W) int64. The learned vector is added at every
        control position, padding and end token included (official behaviour), or, where the configuration says so, at
        none.
        """
        tokens = self.projection(representation.to(self.projection.weight.dtype))
        words = self.model.get_input_embeddings()(control_ids)
        if self.adds_control_memory:
            words = words + self.control_memory
        seen = control_mask.new_ones(tokens.shape[:2])
        return torch.cat((tokens, words.to(tokens.dtype)), dim=1), torch.cat((seen, control_mask), dim=1)

    def generate(
        self,
        representation: Tensor,
        control_ids: Tensor,
        control_mask: Tensor,
        should_stop: Callable[[], bool] | None = None,
        slots: DecodingSlots | None = None,
        limit: WordLimit | None = None,
        **settings: Any,
    ) -> Generated:
        """Beam search with the configuration's settings, replaced by `settings` where given.

        With `num_return_sequences` there are so many rows per region in the result, best first.
        slots: where to decode if nothing is inside and this search fits them; the result is then in host memory.
        should_stop: polled before every token; `StoppedError` if it returns true.
        """
        options = SearchSettings(**(self.generation | settings))
        embeddings, mask = self.prompt(representation, control_ids, control_mask)
        if limit is None and slots is not None and not len(slots) and slots.fits(options, mask.shape[1]):
            return self.generated(decode(embeddings, mask, slots, should_stop), options)
        rows, special = len(control_ids), self.special_tokens
        steps = self.steps(embeddings, mask, options.num_beams, options.max_new_tokens)
        find = greedy if options.num_beams == 1 else search
        tokens, value = find(steps, rows, options, special, embeddings.device, should_stop, limit)
        return self._generated(tokens, value, options)

    def steps(self, embeddings: Tensor, mask: Tensor, beams: int, tokens: int) -> Stepper:
        """The language model with caches for a search of at most so many tokens; embeddings, mask: of `prompt`."""
        return T5Steps(self.model, embeddings, mask, beams, tokens)

    def open_slots(self, capacity: int, graphs: Graphs) -> DecodingSlots | None:
        """Rows of the decoder for so many regions, with the configuration's settings, on the weights' device.

        None where `decodes_in_slots` is false. Merge products and set norms before: the slots compute with the layers
        as they are now.
        """
        return DecodingSlots(
            self.model,
            capacity=capacity,
            encoder_length=self._longest_prompt,
            settings=SearchSettings(**self.generation),
            special=self.special_tokens,
            graphs=graphs,
        )

    @property
    def bytes_per_slot(self) -> int:
        """What a row of `open_slots` takes of the device's memory: the keys and values of the decoder's attentions."""
        config, settings = self.model.config, SearchSettings(**self.generation)
        tokens = self._longest_prompt + (settings.max_new_tokens + 1) * settings.num_beams
        numbers: int = 2 * config.num_decoder_layers * config.num_heads * config.d_kv * tokens
        return numbers * self.projection.weight.itemsize

    @torch.inference_mode()
    def encode_prompt(
        self, representation: Tensor, control_ids: Tensor, control_mask: Tensor, slots: DecodingSlots | None = None
    ) -> EncodedPrompt:
        """What `DecodingSlots.insert` takes; arguments as those of `prompt`. slots: whose recorded encoder is used."""
        embeddings, mask = self.prompt(representation, control_ids, control_mask)
        if slots is not None:
            return slots.encode(embeddings, mask)
        return encode_prompt(self.model, embeddings, mask)

    def generated(self, finished: Sequence[Finished], options: SearchSettings | None = None) -> Generated:
        """What `generate` returns, in host memory, of regions that ended in slots.

        options: the slots' settings; by default the configuration's, as in `open_slots`.
        """
        options = options or SearchSettings(**self.generation)
        length = options.max_new_tokens + 1
        if not finished:
            return self._generated(torch.zeros((0, length), dtype=torch.int64), torch.zeros(0), options)
        tokens = torch.cat([each.tokens for each in finished])
        return self._generated(tokens, torch.cat([each.score for each in finished]), options)

    @property
    def special_tokens(self) -> SpecialTokens:
        """T5 starts a sequence with its padding token."""
        ids = self.model.config
        return SpecialTokens(ids.pad_token_id, ids.pad_token_id, ids.eos_token_id)

    def _generated(self, tokens: Tensor, value: Tensor, options: SearchSettings) -> Generated:
        """Of a search's sequences (R, L + 1) and their values (R,)."""
        is_end = tokens[:, 1:] == self.model.config.eos_token_id
        length = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1) + 1, options.max_new_tokens)
        tokens = tokens[:, : int(length.max()) + 1] if len(tokens) else tokens
        norm = length.float() ** options.length_penalty
        if options.num_beams == 1:
            return Generated(tokens, value / norm, value, length)
        return Generated(tokens, value, value * norm, length)

    def loss(self, representation: Tensor, control_ids: Tensor, control_mask: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the captions' tokens; labels: (R, L) int64, `IGNORED` at padding."""
        pad = self.model.config.pad_token_id  # T5 starts a sequence with its padding token
        shifted = F.pad(labels[:, :-1], (1, 0), value=pad)
        shifted = shifted.masked_fill(shifted == IGNORED, pad)
        logits = self.logits(representation, control_ids, control_mask, shifted)
        return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)

    def logits(self, representation: Tensor, control_ids: Tensor, control_mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Teacher-forced logits (R, L, vocabulary); decoder_ids: (R, L), the start token first."""
        embeddings, mask = self.prompt(representation, control_ids, control_mask)
        logits: Tensor = self.model(
            inputs_embeds=embeddings, attention_mask=mask, decoder_input_ids=decoder_ids, use_cache=False
        ).logits
        return logits


def _rounded_up(tokens: int) -> int:
    """As control words are padded."""
    return -(-tokens // CONTROL_MULTIPLE) * CONTROL_MULTIPLE

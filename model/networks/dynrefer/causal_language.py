"""The language decoder with a causal language model, as the official `dynrefer_vicuna` has it: what differs from the
paper's sequence-to-sequence model, and nothing else.

The prompt is the region's tokens, then the control words, which the tokenizer begins with the end token (the official
code names "</s>" as the token of begin, end and unknown); the caption continues it. Sources: `dynrefer_vicuna.py` of
the official repository, `blip2_vicuna_instruct.py` and `modeling_llama.py` of LAVIS.

Official batches pad between the region's tokens and the words. Their positions count tokens without padding, so what is
computed is the unpadded row; here it is, whatever the padding and the batch.

Shapes: R = regions, Q = region tokens, W = control tokens, L = caption tokens, C = channels, D = model width.
"""

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.networks.dynrefer.config_values import check_token_ids
from dynrefer.model.networks.dynrefer.language import Generated, LanguageDecoder
from dynrefer.model.networks.generation.beam_search import SearchSettings, SpecialTokens, Stepper
from dynrefer.model.networks.generation.llama_stepper import LlamaSteps
from dynrefer.model.networks.kernels.graphs import Graphs


def language_decoder(config: DynReferConfig) -> LanguageDecoder:
    """The decoder for the configuration's language model. Raises `ConfigError` for a kind that is not supported."""
    cls = CausalLanguageDecoder if isinstance(config.language_config, LlamaConfig) else LanguageDecoder
    return cls(config)


class CausalLanguageDecoder(LanguageDecoder):
    """Linear(C -> D) of the region tokens, then the control words' embeddings; the language model writes on.

    It decodes whole batches only: slots are written for T5.
    """

    decodes_in_slots = False

    @staticmethod
    def _language_model(config: DynReferConfig) -> nn.Module:
        """With random weights. Raises `ConfigError` also if head and embedding are to be tied here and not there."""
        language = config.language_config
        check_token_ids("language_config", language)
        if bool(language.tie_word_embeddings) != config.tie_language_head:
            raise ConfigError(
                f"tie_language_head is {config.tie_language_head} but language_config.tie_word_embeddings is "
                f"{language.tie_word_embeddings}; make them equal."
            )
        start = language.bos_token_id
        if not isinstance(start, int) or not 0 <= start < language.vocab_size:
            raise ConfigError(
                f"language_config.bos_token_id is {start}; it must be an id below vocab_size, {language.vocab_size}."
            )
        if language.num_attention_heads % language.num_key_value_heads:
            raise ConfigError(
                f"language_config.num_key_value_heads is {language.num_key_value_heads}; it must divide "
                f"num_attention_heads, {language.num_attention_heads}."
            )
        return LlamaForCausalLM(language)

    def steps(self, embeddings: Tensor, mask: Tensor, beams: int, tokens: int) -> Stepper:
        """As in `LanguageDecoder`."""
        return LlamaSteps(self.model, embeddings, mask, beams, tokens)

    def open_slots(self, capacity: int, graphs: Graphs) -> None:
        """None: whole batches only."""
        return None

    @property
    def special_tokens(self) -> SpecialTokens:
        """The model's own begin token starts a sequence: the repetition penalty counts it, no layer reads it."""
        ids = self.model.config
        return SpecialTokens(ids.bos_token_id, ids.pad_token_id, ids.eos_token_id)

    def _generated(self, tokens: Tensor, value: Tensor, options: SearchSettings) -> Generated:
        """As of any search; then the padding token, written or padded with, is read as the end (official: 0 as 2)."""
        found = super()._generated(tokens, value, options)
        ids = self.model.config
        tokens = found.tokens.masked_fill(found.tokens == ids.pad_token_id, ids.eos_token_id)
        return Generated(tokens, found.score, found.logprob_sum, found.length)

    def logits(self, representation: Tensor, control_ids: Tensor, control_mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Teacher-forced logits (R, L, vocabulary); decoder_ids: (R, L), the start token, which is not read, first.

        The first are those behind the prompt's last token. Nothing counts that stands behind the caption's end.
        """
        embeddings, mask = self.prompt(representation, control_ids, control_mask)
        words = self.model.get_input_embeddings()(decoder_ids[:, 1:]).to(embeddings.dtype)
        seen = torch.cat((mask, mask.new_ones(words.shape[:2])), dim=1)
        hidden = self.model.model(
            inputs_embeds=torch.cat((embeddings, words), dim=1),
            attention_mask=seen,
            position_ids=(seen.cumsum(dim=1) - 1).clamp_min(0),
            use_cache=False,
        ).last_hidden_state
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
        first = hidden[torch.arange(len(last), device=last.device), last, None]
        logits: Tensor = self.model.lm_head(torch.cat((first, hidden[:, mask.shape[1] :]), dim=1))
        return logits

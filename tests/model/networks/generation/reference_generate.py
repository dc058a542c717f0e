"""The language decoder's search by transformers' own `generate`: the reference that ours is compared with."""

from typing import Any

import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.language import Generated, LanguageDecoder


def reference_generate(
    language: LanguageDecoder, representation: Tensor, control_ids: Tensor, control_mask: Tensor, **settings: Any
) -> Generated:
    """As `LanguageDecoder.generate`: every step's scores kept, every region's encoder states repeated per beam."""
    embeddings, mask = language.prompt(representation, control_ids, control_mask)
    options = language.generation | settings
    penalty, beams, config = options["length_penalty"], options["num_beams"], language.model.config
    if beams == 1:
        del options["length_penalty"]  # of beam search only
    found = language.model.generate(
        inputs_embeds=embeddings,
        attention_mask=mask,
        do_sample=False,
        decoder_start_token_id=config.pad_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    tokens: Tensor = found.sequences
    is_end = tokens[:, 1:] == config.eos_token_id
    length = torch.where(is_end.any(dim=1), is_end.int().argmax(dim=1) + 1, tokens.shape[1] - 1)
    # transformers pads with the end token where the padding token is number 0
    behind = torch.arange(tokens.shape[1], device=tokens.device) > length[:, None]
    tokens = tokens.masked_fill(behind, config.pad_token_id)
    if beams > 1:
        score = found.sequences_scores.float()
        return Generated(tokens, score, score * length.float() ** penalty, length)
    steps = torch.stack(found.scores, dim=1).log_softmax(-1)  # (R, L, vocabulary)
    chosen = steps.gather(2, tokens[:, 1:, None]).squeeze(2)
    within = torch.arange(chosen.shape[1], device=chosen.device) < length[:, None]
    total = torch.where(within, chosen, 0.0).sum(dim=1)
    return Generated(tokens, total / length**penalty, total, length)

"""Vicuna's tokenizer with the special tokens that the official code gives it.

Source: `blip2_vicuna_instruct.py` of LAVIS. Every text begins with "</s>", which is also the end, and has no end of its
own. The official padding token is a new one, "[PAD]", beyond the weights; since padding is never looked at, "<unk>",
which the weights have, stands for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer.model.errors import ConversionError

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerBase

_END, _PADDING = "</s>", "<unk>"
_SAMPLES = ("a", "street,dog|")


def vicuna_tokenizer(place: Path, config: LlamaConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory, changed as above. Raises `ConversionError` if its ids do not fit the model's."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            place,
            trust_remote_code=False,
            local_files_only=True,
            bos_token=_END,
            eos_token=_END,
            pad_token=_PADDING,
            padding_side="right",
            truncation_side="right",
        )
        rows = tokenizer(list(_SAMPLES), padding=True)["input_ids"]
        largest = max(tokenizer.get_vocab().values())
    except BaseException as error:  # of Rust come a bare Exception and, for a panic, a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ConversionError(f"the tokenizer in {place} cannot be read: its files are damaged.") from error
    if largest >= config.vocab_size:
        raise ConversionError(
            f"the tokenizer in {place} has tokens up to the id {largest}, but the language model has only "
            f"{config.vocab_size}; give the right sizes with --config."
        )
    ids = (tokenizer.eos_token_id, tokenizer.pad_token_id)
    if ids != (config.eos_token_id, config.pad_token_id):
        raise ConversionError(
            f"the tokenizer in {place} has {_END!r} as {ids[0]} and {_PADDING!r} as {ids[1]}, but the language model "
            f"ends with {config.eos_token_id} and is padded with {config.pad_token_id}; is it Vicuna's?"
        )
    if any(row[0] != config.eos_token_id for row in rows) or rows[1][-1] == config.eos_token_id:
        raise ConversionError(f"the tokenizer in {place} does not begin texts as Vicuna's; is it LLaMA's?")
    found: PreTrainedTokenizerBase = tokenizer
    return found

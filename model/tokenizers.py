"""The tokenizers of a model directory: one border behind which the libraries' errors become ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import check_file, read_json_object

LANGUAGE_TOKENIZER, TEXT_TOKENIZER = "language_tokenizer", "text_tokenizer"  # folders in a model directory
SETTINGS_FILE, TOKENS_FILE = "tokenizer_config.json", "tokenizer.json"
_OTHER_TOKENS = ("spiece.model", "vocab.json")  # in their place in directories that transformers once wrote
_MAX_EXTRA_IDS = 1000  # placeholders that T5's tokenizer makes; official ones have 100


def load_tokenizer(folder: Path, vocab_size: int) -> Any:
    """The tokenizer in a folder, for a network that has `vocab_size` tokens.

    Raises `ModelNotFoundError` if a file is missing, `ConfigError` naming the folder or the file for anything else.
    """
    what = "tokenizer" if folder.name not in (LANGUAGE_TOKENIZER, TEXT_TOKENIZER) else folder.name.replace("_", " ")
    settings = read_json_object(folder / SETTINGS_FILE, f"{what}'s file")
    extra = settings.get("extra_ids", 0)
    if type(extra) is not int or not 0 <= extra <= _MAX_EXTRA_IDS:  # one token is made for each
        raise ConfigError(f"extra_ids in {str(folder / SETTINGS_FILE)!r} must be an integer, 0 to {_MAX_EXTRA_IDS}.")
    # Without its tokens transformers silently makes a tokenizer of the special ones alone.
    if (folder / TOKENS_FILE).exists() or not any((folder / name).is_file() for name in _OTHER_TOKENS):
        read_json_object(folder / TOKENS_FILE, what)
    for name in _OTHER_TOKENS:
        if (folder / name).exists():
            check_file(folder / name, what)
    tokenizer = _load(folder, what)
    _check(tokenizer, folder, vocab_size, what)
    return tokenizer


def _load(folder: Path, what: str) -> Any:
    from transformers import AutoTokenizer

    try:
        # Never code that the folder names, and never a look at another place than the folder.
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except BaseException as error:  # of Rust come a bare Exception and, for a panic, a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ConfigError(f"the {what} in {str(folder)!r} cannot be read: its files are damaged.") from error


def _check(tokenizer: Any, folder: Path, vocab_size: int, what: str) -> None:
    """Raise `ConfigError` unless texts become ids of the network, in a batch, and ids become texts."""
    try:
        largest = max(tokenizer.get_vocab().values(), default=-1)
        batch = tokenizer(["a", "two words|"], padding=True, truncation=True, max_length=8)
        tokenizer.decode(batch["input_ids"][1], skip_special_tokens=True)
        special = [tokenizer.pad_token_id, tokenizer.eos_token_id]
    except BaseException as error:  # as above
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ConfigError(f"the {what} in {str(folder)!r} cannot tokenize a text: its files are damaged.") from error
    if largest >= vocab_size:
        raise ConfigError(
            f"the {what} in {str(folder)!r} has tokens up to the id {largest}, but its network has only {vocab_size}."
        )
    if None in special:
        raise ConfigError(f"the {what} in {str(folder)!r} has no token for the end or for padding.")

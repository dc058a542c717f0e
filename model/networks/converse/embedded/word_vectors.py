"""Vectors of common English words, learnt elsewhere from plain text: so that a word which no training question held is
read as the words that are used like it.

converser/word_vectors.safetensors: `words`, UTF-8 text with a word a line; `vectors`, (words, D) int8, 254ths.
The vectors are GloVe's (Pennington, Socher and Manning, EMNLP 2014); NOTICE says where they came from. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dynrefer.model.errors import ModelNotFoundError, WeightsError
from dynrefer.model.networks.converse.embedded.lexicon import Floats

WORD_VECTORS = "word_vectors.safetensors"
_SCALE = 254.0  # numbers of vectors of length 1 are between -0.5 and 0.5, but for a few that are cut off


@dataclass(frozen=True, eq=False)
class WordVectors:
    """words: in lower case, the most frequent first. stored: (words, D) int8."""

    words: tuple[str, ...]
    stored: NDArray[np.int8]

    @property
    def size(self) -> int:
        """D."""
        return int(self.stored.shape[1])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Word -> row."""
        return {word: row for row, word in enumerate(self.words)}

    def of(self, words: Sequence[str]) -> Floats:
        """(len(words), D) float32, of about length 1; zeros for a word that has none."""
        found = np.zeros((len(words), self.size), np.float32)
        for place, word in enumerate(words):
            row = self.rows.get(word)
            if row is not None:
                found[place] = self.stored[row] / _SCALE
        return found

    @classmethod
    def made(cls, words: Sequence[str], vectors: Floats) -> WordVectors:
        """vectors: (words, D), of any length; what they have in common is taken away."""
        centred = vectors - vectors.mean(axis=0)
        single = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-9)
        return cls(tuple(words), np.clip(np.rint(single * _SCALE), -127, 127).astype(np.int8))

    def to_bytes(self) -> bytes:
        """As `load` reads it."""
        text = np.frombuffer("\n".join(self.words).encode(), np.uint8)
        return save({"words": text, "vectors": self.stored})

    @classmethod
    def load(cls, path: Path) -> WordVectors:
        """Raises `ModelNotFoundError`, `WeightsError`."""
        if not path.is_file():
            raise ModelNotFoundError(f"{str(path)!r} is missing: the words' vectors of the converser.")
        try:
            with safe_open(path, "numpy") as file:
                words = bytes(file.get_tensor("words")).decode().split("\n")
                stored = file.get_tensor("vectors")
        except (OSError, SafetensorError, UnicodeDecodeError, TypeError) as error:  # TypeError: of a type unknown here
            raise WeightsError(f"{str(path)!r} holds no vectors of words: {error!s:.100}.") from error
        if stored.dtype != np.int8 or stored.ndim != 2 or len(stored) != len(words):
            raise WeightsError(
                f"{str(path)!r}: {len(words)} words have as many rows of int8, not {stored.dtype} of {stored.shape}."
            )
        if len(set(words)) != len(words) or "" in words:
            raise WeightsError(f"{str(path)!r}: a word is empty or stands there twice.")
        return cls(tuple(words), stored)

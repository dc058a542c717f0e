"""Which tokens of a text a word is: a word's score is the best of its own tokens, never of what tokens are decoded to.

Grounding DINO and its kind score tokens. Source: their paper's sub-sentence level text (Liu et al., 2024); the spans
come from the tokenizer's offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model.errors import FinderError

Span = tuple[int, int]  # characters [start, end)


@dataclass(frozen=True, slots=True)
class TokenText:
    """A tokenized text. ids: of the tokens. spans: the places of the tokens of each part of the text that is scored."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, ...], ...]


def joined(words: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Words as the models were trained on them, "dog. puppy.", and where each of them is."""
    text, spans = "", []
    for word in words:
        plain = " ".join(word.lower().replace(".", " ").replace("?", " ").split()) or "object"
        text += " " if text else ""
        spans.append((len(text), len(text) + len(plain)))
        text += plain + "."
    return text, tuple(spans)


def tokens_of(tokenizer: Any, text: str, spans: Sequence[Span], longest: int, field: str) -> TokenText:
    """The tokens, and those of each span. field: of the request, where the text is too long.

    Raises `FinderError` for a text of more than `longest` tokens.
    """
    found = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = found["input_ids"], found["offset_mapping"]
    if len(ids) > longest:
        raise FinderError(f"This has {len(ids)} tokens; the finder reads at most {longest}: use fewer words.", field)
    # Special tokens have empty offsets.
    places = [
        tuple(index for index, (low, high) in enumerate(offsets) if low < high and low < end and high > start)
        for start, end in spans
    ]
    if not all(places):
        raise FinderError("The finder's tokenizer reads nothing in one of these words; write it in letters.", field)
    return TokenText(tuple(ids), tuple(places))

"""Captions of corrections as the language model is to write them: control words, and the text that follows.

A model whose language model writes a placeholder for the noun learns the caption with the placeholder in it. So a
caption must hold its region's name, or it cannot be taught to such a model, and is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynrefer.model.evidence.noun_phrases import Noun, put_noun
from dynrefer.workbench.data.captions import PhraseFinder
from dynrefer.workbench.training.samples import drop_words

_DROPPED, _NO_TAGS = 0.15, 0.05  # of the tags that control a caption, and of captions without any
_ARTICLE = re.compile(r"\b(?:an?|a (?:pair|piece|glass|slice|bunch) of) $")


@dataclass(frozen=True)
class CaptionExample:
    """caption: with the placeholder, where the model has one. tags: words that may control it, best first."""

    caption: str
    tags: tuple[str, ...]


def placeholder_caption(
    caption: str, names: Sequence[str], placeholder: str, noun_of: Callable[[str], Noun]
) -> str | None:
    """The caption with the placeholder in the place of its noun, so that putting the noun in gives the caption back.

    names: those that its noun may be, the likeliest first; None if the caption holds none of them in a place where the
    model could write it. noun_of: how a name is used in a sentence.
    """
    for name in names:
        found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", caption)
        if found is None:
            continue
        before, after = caption[: found.start()], caption[found.end() :]
        fitting = [
            candidate
            for candidate in _with_article(before, after, placeholder)
            if put_noun(candidate, noun_of(name), placeholder) == caption
        ]
        if fitting:
            return min(fitting, key=len)
        if put_noun(as_it_is := f"{before}{placeholder}{after}", noun_of(name), placeholder) == caption:
            return as_it_is
    return None


def _with_article(before: str, after: str, placeholder: str) -> Iterator[str]:
    """With the article "a" in the place of the noun's own, in front of as many words as may be adjectives."""
    words = before.split(" ")
    for place in range(len(words)):
        start, adjectives = " ".join(words[:place]), " ".join(words[place:])
        head = _ARTICLE.sub("", f"{start} ") if start else ""
        following = adjectives or placeholder
        article = "an" if following[:1] in tuple("aeiou") else "a"
        yield f"{head}{article} {adjectives}{placeholder}{after}"


def control_text(
    example: CaptionExample, finder: PhraseFinder, placeholder: str | None, rng: np.random.Generator
) -> str:
    """Control words, closed by "|": the placeholder and tags as an answer passes them on, some of them missing; for a
    model without it, words of caption and tags as in training."""
    if placeholder is None:
        return drop_words([*finder.phrases(example.caption), *example.tags], rng)
    tags = [] if rng.random() < _NO_TAGS else [tag for tag in example.tags if rng.random() >= _DROPPED]
    return ",".join((placeholder, *tags)) + "|"


def writable(caption: str, tokenizer: Any) -> str:
    """The caption as the language model's tokenizer can write it: in lower case where it knows no other, and without a
    full stop at the end."""
    text = caption.removesuffix(".").strip()
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in tokenizer(text, add_special_tokens=False)["input_ids"]:
        return text.lower()
    return text

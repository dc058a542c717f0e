"""Captions: CIDEr-D, and the relation that a caption states."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider


def tokenise(text: str) -> str:
    """Lower case words with single spaces between them; punctuation goes, as in the usual tokenisation.

    Hyphens inside a word stay ("upside-down" is one word).
    """
    return " ".join(re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*", text.lower()))


def cider_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr-D per caption, (R,), from 0 to 10; document frequencies are those of all `references`.

    Source: Vedantam et al., arXiv 1411.5726. Computed by pycocoevalcap on `tokenise`, which needs no Java.
    """
    if len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions but {len(references)} sets of references")
    truth = {i: [tokenise(text) for text in texts] for i, texts in enumerate(references)}
    found = {i: [tokenise(text)] for i, text in enumerate(captions)}
    _, scores = Cider().compute_score(truth, found)
    return np.asarray(scores, dtype=np.float64)


def stated_relation(caption: str, relations: Sequence[str]) -> str | None:
    """The member of `relations` that a caption states; None for none, and for two that differ.

    Where one phrase holds another, the longer is what is said.
    """
    longest_first = sorted(relations, key=len, reverse=True)
    pattern = r"\b(?:" + "|".join(re.escape(phrase) for phrase in longest_first) + r")\b"
    stated = set(re.findall(pattern, tokenise(caption)))
    return stated.pop() if len(stated) == 1 else None


def relation_hits(captions: Sequence[str], truth: Sequence[str], relations: Sequence[str]) -> NDArray[np.bool_]:
    """(R,): whether a caption states the true relation."""
    pairs = zip(captions, truth, strict=True)
    hits = [stated_relation(caption, relations) == relation for caption, relation in pairs]
    return np.array(hits, dtype=np.bool_)

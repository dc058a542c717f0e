"""Captions: CIDEr-D and METEOR, and the relation that a caption of a drawn scene states."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.cider.cider import Cider

from dynrefer.workbench.evaluation.metrics.java import has_java, meteor_scores, ptb_tokens
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, mean, mean_error
from dynrefer.workbench.evaluation.metrics.treebank import tokenise

Tokenizer = Callable[[Sequence[str]], list[str]]


def own_tokens(texts: Sequence[str]) -> list[str]:
    """`tokenise` of each text."""
    return [tokenise(text) for text in texts]


def cider_scores(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer = own_tokens
) -> NDArray[np.float64]:
    """CIDEr-D per caption, (R,), in [0, 10]; document frequencies are taken over all `references`.

    Source: Vedantam et al., arXiv 1411.5726, by pycocoevalcap. Published values are 100 times the mean.
    """
    if len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions but {len(references)} sets of references")
    texts = iter(tokenizer([*captions, *(text for texts in references for text in texts)]))
    found = {i: [next(texts)] for i in range(len(captions))}
    truth = {i: [next(texts) for _ in known] for i, known in enumerate(references)}
    _, scores = Cider().compute_score(truth, found)
    return np.asarray(scores, dtype=np.float64)


@dataclass(frozen=True)
class CaptionMetrics:
    """cider: in [0, 10]. meteor: in [0, 1], not measured without Java. tokenizer: the one used for CIDEr-D."""

    cider: Estimate
    meteor: Estimate
    tokenizer: str


def caption_metrics(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionMetrics:
    """With Java both metrics on Penn Treebank tokens, as published; without, CIDEr-D alone, on our own tokens."""
    if not has_java():
        return CaptionMetrics(mean(cider_scores(captions, references)), Estimate(), "ours")
    cider = cider_scores(captions, references, ptb_tokens)
    texts = iter(ptb_tokens([*captions, *(text for texts in references for text in texts)]))
    found = [next(texts) for _ in captions]
    corpus, each = meteor_scores(found, [[next(texts) for _ in known] for known in references])
    return CaptionMetrics(mean(cider), Estimate(corpus, mean_error(each)), "Penn Treebank")


def any_of(phrases: Sequence[str]) -> re.Pattern[str]:
    """A pattern that matches any of the phrases as whole words, the longest first."""
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(re.escape(phrase) for phrase in longest_first) + r")\b")


def stated_relation(caption: str, relations: Sequence[str]) -> str | None:
    """The member of `relations` that a caption states; None if it states none, or two different ones."""
    stated = set(any_of(relations).findall(tokenise(caption)))
    return stated.pop() if len(stated) == 1 else None


def relation_hits(captions: Sequence[str], truth: Sequence[str], relations: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each caption states the true relation, (R,)."""
    pairs = zip(captions, truth, strict=True)
    hits = [stated_relation(caption, relations) == relation for caption, relation in pairs]
    return np.array(hits, dtype=np.bool_)

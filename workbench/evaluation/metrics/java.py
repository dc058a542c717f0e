"""The two Java programs of the usual caption evaluation: METEOR 1.5 and the Penn Treebank tokenizer.

Both come with pycocoevalcap; `java` itself comes from the system (Debian: default-jre-headless).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from dynrefer.workbench.evaluation.errors import DataError, MissingJavaError

NO_JAVA = "{} needs Java and no `java` was found; on Debian: apt-get install default-jre-headless."
_SEPARATOR = "|||"  # of METEOR's line protocol


def has_java() -> bool:
    """Whether `java` is found."""
    return shutil.which("java") is not None


def need_java(what: str) -> None:
    """Raise `MissingJavaError` where `java` is not found."""
    if not has_java():
        raise MissingJavaError(NO_JAVA.format(what))


def ptb_tokens(texts: Sequence[str]) -> list[str]:
    """Texts as the Penn Treebank tokenizer splits them: lower case, single spaces, punctuation left out.

    Raises `MissingJavaError`.
    """
    need_java("the Penn Treebank tokenizer")
    found = PTBTokenizer().tokenize({place: [{"caption": _line(text)}] for place, text in enumerate(texts)})
    return [" ".join(found[place][0].split()) for place in range(len(texts))]


def meteor_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, NDArray[np.float64]]:
    """METEOR 1.5 (English, exact, stem, synonym and paraphrase matches) of R captions.

    Returns the figure of all together, whose statistics are added up before the formula, and one score per caption,
    (R,), in [0, 1]. A caption without references scores 0 and does not count in the first. Starting takes seconds to
    half a minute. Source: Denkowski and Lavie, 2014; the jar that pycocoevalcap runs. Raises `MissingJavaError`.
    """
    need_java("METEOR")
    each = np.zeros(len(captions))
    rows = [row for row, known in enumerate(references) if known]
    if not rows:
        return 0.0, each
    scorer = Meteor()
    try:
        together, found = scorer.compute_score(
            {row: [_line(text) for text in references[row]] for row in rows},
            {row: [_line(captions[row])] for row in rows},
        )
    except (ValueError, BrokenPipeError) as error:  # it printed no number, or is gone
        raise DataError("METEOR's Java program failed; it needs two gigabytes of memory.") from error
    each[rows] = found
    return float(together), each


def _line(text: str) -> str:
    """One line without the separator."""
    return " ".join(text.replace(_SEPARATOR, " ").split())

"""The two Java programs of COCO caption evaluation: METEOR 1.5 and the Penn Treebank tokenizer.

Both ship with pycocoevalcap; `java` must be installed on the system (Debian: default-jre-headless).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from dynrefer.workbench.errors import DataError, MissingJavaError

NO_JAVA = "{} needs Java and no `java` was found; on Debian: apt-get install default-jre-headless."
_SEPARATOR = "|||"  # of METEOR's line protocol


def has_java() -> bool:
    """Whether `java` is on the PATH."""
    return shutil.which("java") is not None


def need_java(what: str) -> None:
    """Raise `MissingJavaError`, naming what needs it, if `java` is not on the PATH."""
    if not has_java():
        raise MissingJavaError(NO_JAVA.format(what))


def ptb_tokens(texts: Sequence[str]) -> list[str]:
    """Penn Treebank tokens of each text: lower case, joined by single spaces, without punctuation.

    Raises `MissingJavaError`.
    """
    need_java("the Penn Treebank tokenizer")
    found = PTBTokenizer().tokenize({place: [{"caption": _line(text)}] for place, text in enumerate(texts)})
    return [" ".join(found[place][0].split()) for place in range(len(texts))]


def meteor_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, NDArray[np.float64]]:
    """METEOR 1.5 (English, exact, stem, synonym and paraphrase matches) of R captions.

    Returns the score of the corpus, whose statistics are summed before the formula, and one score per caption, (R,),
    in [0, 1]. A caption without references scores 0 and is left out of the corpus. Start-up takes up to 30 s.
    Source: Denkowski and Lavie, 2014; the jar of pycocoevalcap. Raises `MissingJavaError`; `DataError` if it fails.
    """
    need_java("METEOR")
    each = np.zeros(len(captions))
    rows = [row for row, known in enumerate(references) if known]
    if not rows:
        return 0.0, each
    scorer = Meteor()
    try:
        corpus, found = scorer.compute_score(
            {row: [_line(text) for text in references[row]] for row in rows},
            {row: [_line(captions[row])] for row in rows},
        )
    except (ValueError, BrokenPipeError) as error:  # it printed no number, or has exited
        raise DataError("METEOR's Java program failed; it needs two gigabytes of memory.") from error
    each[rows] = found
    return float(corpus), each


def _line(text: str) -> str:
    """The text on one line, without the separator of METEOR's protocol."""
    return " ".join(text.replace(_SEPARATOR, " ").split())

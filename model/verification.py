"""Whether the region model agrees with the boxes of an answer: queries about them, and verdicts. No torch.

Of each box two things are asked at once: how likely its object is what the answer's words name, and what the region
model itself would call it. A broader word ("animal") is at least as likely as any narrower one, so it holds where the
model says "dog"; of a narrower one ("beagle") the model knows only that it is a dog, and agrees as far as it can.

A box that the converser has verified itself (`verified` is not None) is not looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dynrefer.model.grounding.sentence import read_sentence
from dynrefer.model.request_vocabulary import RequestVocabulary, Word
from dynrefer.model.types import LIKELY, RegionQuery, Task

if TYPE_CHECKING:
    from dynrefer.model.conversation import GroundedSpan, Reply
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.types import RegionDescription

_RIVALS = 5  # names of the region model's own that a word is compared with
_UNSURE = 0.25  # where neither the word nor any name is likelier, the region model knows nothing of the box
# Part of a name's probability that a word has which says more than the name does. What lies below a name in the graph
# of nouns has .45 of it and what is beside it at most .35 (`evidence/known_things.py`).
_NARROWER = 0.4
_LEAST_SIDE = 1.0  # pixels of a box that shows anything
# What fills a picture and has no box of its own: the region model names the thing that lies in front of it.
_SURFACES = frozenset(
    ("air", "background", "beach", "carpet", "ceiling", "field", "floor", "grass", "ground", "lawn", "meadow", "road")
    + ("sand", "sea", "sky", "snow", "street", "wall", "water")
)


def queries_to_verify(reply: Reply) -> list[RegionQuery]:
    """What is to be asked about the boxes of an answer, in the order of its spans; empty where nothing is.

    A span without a noun ("the one on the left", "it") is not asked about.
    """
    return [_query(span, noun) for span, noun in _to_verify(reply)]


def with_verdicts(reply: Reply, described: Sequence[RegionDescription]) -> Reply:
    """The answer with its verdicts. described: the descriptions of `queries_to_verify`'s queries, in order."""
    # Several boxes may have the same words, so that a span's place and not its characters says which it is.
    asked = zip(_to_verify(reply), described, strict=True)
    verdicts = {id(span): _verdict(noun, description) for (span, noun), description in asked}
    spans = (replace(span, verified=verdicts[id(span)]) if id(span) in verdicts else span for span in reply.grounding)
    return replace(reply, grounding=tuple(spans))


def within_image(reply: Reply, size: ImageSize) -> Reply:
    """The answer with its boxes clipped to an image of (width, height); those that show nothing of it are left out."""
    kept = []
    for span in reply.grounding:
        x1, y1, x2, y2 = span.box
        width, height = size
        box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if box[2] - box[0] >= _LEAST_SIDE and box[3] - box[1] >= _LEAST_SIDE:  # false for NaN, too
            kept.append(replace(span, box=box))
    return replace(reply, grounding=tuple(kept))


def _to_verify(reply: Reply) -> list[tuple[GroundedSpan, str]]:
    """Spans without a verdict, each with the noun that it names."""
    found = ((span, _noun(reply.content[slice(*span.span)])) for span in reply.grounding if span.verified is None)
    return [(span, noun) for span, noun in found if noun and noun not in _SURFACES]


def _noun(words: str) -> str:
    """The noun of a span's first phrase, "" where it has none."""
    return next((phrase.noun for phrase in read_sentence(words)), "")


def _query(span: GroundedSpan, noun: str) -> RegionQuery:
    """The noun is asked as a tag, so that the categories stay the region model's own."""
    return RegionQuery(
        span.box,
        tasks=(Task.TAGS, Task.CATEGORIES),
        top_k=_RIVALS,
        thresholds={Task.TAGS: -1.0},  # whatever its score
        vocabulary=RequestVocabulary(tags=(Word(noun),)),
    )


def _verdict(noun: str, description: RegionDescription) -> bool | None:
    said = next((label.probability for label in description.tags or () if label.name == noun), None)
    if said is None:
        return None  # the region model knows no such word
    if said >= LIKELY:
        return True
    # A broader word that stands for several names is no rival of one of them.
    names = [label for label in description.categories or () if label.level != "parent"]
    rival = max((label.probability for label in names if label.name != noun), default=0.0)
    if max(said, rival) < _UNSURE:
        return None
    own = any(label.name == noun for label in names)
    return said >= (rival if own else _NARROWER * rival)

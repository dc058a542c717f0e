"""Sentences with alternatives: how one question is asked in many ways, some of them held out from training.

A skeleton is a line such as "[What|Which|^In what] colo[u|]r is {x}?": slots in braces, alternatives in brackets. An
alternative that begins with ^ is held out, and so is a whole skeleton that does. Every skeleton is said within a frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np

from dynrefer.workbench.scenes.questions.records import Forms

_PARTS = re.compile(r"\[([^\]]*)\]")
HELD_OUT = "^"
PLAIN_FRAME = "{question}"
FRAMES = (  # politeness and the like; the plain one is said half of the time
    "Please answer: {question}",
    "{question} Please answer briefly.",
    "Look at the image. {question}",
    "In this picture: {question}",
    "Hi! {question}",
    "One question: {question}",
    "Tell me: {question}",
    "{question} Thanks!",
)


@dataclass(frozen=True)
class Skeleton:
    """parts: in turn fixed texts (one alternative) and alternatives, each with whether it is held out."""

    parts: tuple[tuple[tuple[str, bool], ...], ...]
    held_out: bool

    @property
    def has_wordings(self) -> bool:
        """Whether any alternative is held out."""
        return any(held for part in self.parts for _, held in part)

    @property
    def count(self) -> int:
        """How many sentences it stands for, frames apart."""
        return prod(len(part) for part in self.parts)

    def written(self, forms: Forms, random: np.random.Generator) -> str:
        """One of its sentences, slots left open, that `forms` allows."""
        chosen = []
        places = [place for place, part in enumerate(self.parts) if any(held for _, held in part)]
        unheard = int(random.choice(places)) if forms is Forms.WORDINGS else -1
        for place, part in enumerate(self.parts):
            texts = [text for text, held in part if held == (place == unheard)]
            chosen.append(texts[int(random.integers(len(texts)))])
        return "".join(chosen)


@cache
def skeleton(line: str) -> Skeleton:
    """A line of this notation, read."""
    parts = []
    for place, piece in enumerate(_PARTS.split(line.removeprefix(HELD_OUT))):
        alternatives = piece.split("|") if place % 2 else [piece]
        parts.append(tuple((text.removeprefix(HELD_OUT), text.startswith(HELD_OUT)) for text in alternatives))
    return Skeleton(tuple(parts), line.startswith(HELD_OUT))


def form(lines: tuple[str, ...], forms: Forms, random: np.random.Generator) -> str | None:
    """A form of one of these skeletons, or None where they have none that `forms` allows."""
    held_out = forms is Forms.SKELETONS
    read = [each for each in map(skeleton, lines) if each.held_out == held_out]
    if forms is Forms.WORDINGS:
        read = [each for each in read if each.has_wordings]
    if not read:
        return None
    sentence = read[int(random.integers(len(read)))].written(forms, random)
    frame = PLAIN_FRAME if random.random() < 0.5 else FRAMES[int(random.integers(len(FRAMES)))]
    return frame.replace(PLAIN_FRAME, sentence)


def number_of_forms(lines: tuple[str, ...]) -> int:
    """How many forms these skeletons stand for."""
    return sum(skeleton(line).count for line in lines) * (1 + len(FRAMES))

"""A converser without weights: what it says follows from the words of the question, for tests of the service."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import (
    REGION,
    AnswerProbability,
    Conversation,
    ConverseTurn,
    Corners,
    Finish,
    GroundedSpan,
    Reply,
    Spoken,
)
from dynrefer.model.errors import ConversationError, QueryError
from dynrefer.model.geometry import ImageSize, region_box

THINGS = {"dog": (0.0, 0.0, 16.0, 16.0), "cat": (20.0, 10.0, 44.0, 40.0)}  # words that it has a box for
UNASKABLE = "unaskable"  # a word that it refuses
PIECE = 2  # words of an answer, in one item


@dataclass(frozen=True, slots=True)
class FakeConverserSpec:
    """Images in a quarter of their size."""

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """Questions with the word that it refuses."""
        return [
            ConversationError("This cannot be asked.", f"messages/{len(each.messages) - 1}/content")
            for each in queries
            if UNASKABLE in each.question
        ]

    def prepare_each(self, image: NDArray[np.uint8], queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """One turn per conversation."""
        size = (image.shape[1], image.shape[0])
        pixels = np.ascontiguousarray(image[::2, ::2])
        for query in queries:
            regions = (
                replace(each, query=replace(each.query, box=region_box(each.query.box).clip(size).corners))
                for each in query.regions
            )
            asked = replace(query, regions=tuple(regions))
            yield ConverseTurn(pixels, size, asked, hashlib.sha256(pixels).digest(), piece=PIECE)


def spoken(turn: ConverseTurn) -> Spoken:
    """The answer with the turn's next piece: a word is a token. Its last word is not stable before all is said."""
    asked = turn.conversation
    if asked.answers:
        return _choice(asked)
    words, places = _words(asked)
    said = min(len(turn.written) + turn.piece, len(words), asked.max_tokens)
    content = " ".join(words[:said])
    done = said == min(len(words), asked.max_tokens)
    finish = Finish.LENGTH if said < len(words) else Finish.STOP
    grounding = tuple(_grounded(asked, words, place) for place in places if place < said) if asked.ground else ()
    stable = len(content) if done else len(" ".join(words[: said - 1]))
    return Spoken(Reply(content, grounding, 0.75, finish=finish, tokens=said), tuple(range(said)), done, stable)


def _choice(asked: Conversation) -> Spoken:
    """The first of the answers is the best."""
    share = 1 / 2 ** len(asked.answers)
    probabilities = [1 / 2 ** (place + 1) for place in range(len(asked.answers))]
    probabilities[-1] += share
    answers = tuple(map(AnswerProbability, asked.answers, probabilities))
    reply = Reply(asked.answers[0], probability=probabilities[0], answers=answers, tokens=1)
    return Spoken(reply, (0,), True, len(reply.content))


def _words(asked: Conversation) -> tuple[list[str], list[int]]:
    """The number of messages, then the question's words, a region by its id; and the places of words with a box."""
    words = [f"{len(asked.messages)}:", *REGION.sub(r"\1", asked.question).split()]
    known = {*THINGS, *(region.id for region in asked.regions)}
    return words, [place for place, word in enumerate(words) if word in known]


def _grounded(asked: Conversation, words: Sequence[str], place: int) -> GroundedSpan:
    first = len(" ".join(words[:place])) + 1
    word = words[place]
    box: Corners = THINGS.get(word, (0.0, 0.0, 0.0, 0.0))
    region = next((each for each in asked.regions if each.id == word), None)
    if region is not None:
        box = region.query.box
    return GroundedSpan((first, first + len(word)), box, 0.5, region=None if region is None else region.id)

"""Conversers made of the truth, and of nothing: what the measurement says of them is known beforehand."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dynrefer.model.conversation import CANNOT_TELL, Conversation, Reply
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import QueryError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import Pixels
from dynrefer.workbench.scenes.questions.records import Question

Key = tuple[bytes, tuple[str, ...], tuple[str, ...]]


def key_of(image: Pixels, conversation: Conversation) -> Key:
    """What tells two questions apart: the image, all messages and the allowed answers."""
    texts = tuple(message.content for message in conversation.messages)
    return hashlib.sha256(image.tobytes()).digest(), texts, conversation.answers


class OracleSpec:
    """Keeps the whole image."""

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """Anything may be asked."""
        return []

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """The image as it is."""
        for query in queries:
            yield ConverseTurn(image, (image.shape[1], image.shape[0]), query, key_of(image, query)[0])


@dataclass
class Oracle:
    """Gives the answers that it was told, each question's in the order in which they were told; else it cannot tell.

    wrong: of a question, whether another answer is to be given, and which.
    """

    tiled: bool = True
    known: dict[Key, list[Question]] = field(default_factory=lambda: defaultdict(list))
    wrong: Callable[[Question], Reply | None] = lambda question: None

    spec = OracleSpec()
    max_tokens = 96
    num_bytes = 0

    def tell(self, image: Pixels, questions: Sequence[Question]) -> None:
        """What is true of an image."""
        for question in questions:
            self.known[key_of(image, question.conversation)].append(question)

    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """Whole answers, in one piece."""
        return [Spoken(reply, (0,), True, len(reply.content)) for reply in map(self._reply, turns)]

    def _reply(self, turn: ConverseTurn) -> Reply:
        told = self.known.get(key_of(turn.pixels, turn.conversation))
        if not told:
            return Reply(CANNOT_TELL)
        question = told.pop(0)
        return self.wrong(question) or Reply(question.answer, question.spans)

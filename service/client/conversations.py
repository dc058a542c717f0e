"""Answers of /v1/converse, whole or as server-sent events, as the records that `DynRefer.ask` returns. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynrefer.model import AnswerProbability, Finish, GroundedSpan, ImageInfo, Message, Reply, Role
from dynrefer.service.client import exchanges
from dynrefer.service.client.errors import BrokenAnswer
from dynrefer.service.client.records import AnswerInfo, Document, corners
from dynrefer.service.client.refusals import problem_of_event

_OK = 200


@dataclass(frozen=True, slots=True)
class ServedReply(Reply):
    """An answer of a service. info: what it says besides. document: all of it, as JSON.

    Boxes are xyxy pixels in the frame that the request's `orientation` asked for.
    """

    info: AnswerInfo = field(default_factory=AnswerInfo)
    document: Document = field(default_factory=dict)

    @property
    def message(self) -> Message:
        """The answer as a turn of the conversation, for the next question."""
        return Message(Role.ASSISTANT, self.content)


def served_reply(document: Document) -> ServedReply:
    """The answer of /v1/converse. Raises as `records` does for a document that is none of this service's."""
    message, image = document["message"], document["image"]
    return ServedReply(
        content=message["content"],
        grounding=tuple(map(_grounded, message.get("grounding", ()))),
        probability=message.get("probability"),
        answers=tuple(AnswerProbability(each["answer"], each["probability"]) for each in message.get("answers") or ()),
        finish=Finish(document["finish_reason"]),
        tokens=document["usage"]["completion_tokens"],
        info=AnswerInfo(
            document["id"],
            document["model"],
            ImageInfo(image["width"], image["height"], frames=image.get("frames", 1)),
            timings_ms=dict(document["timings_ms"]),
        ),
        document=document,
    )


def _grounded(given: Mapping[str, Any]) -> GroundedSpan:
    start, end = given["span"]
    return GroundedSpan(
        (int(start), int(end)),
        corners(given["box"]),
        given.get("probability"),
        given.get("verified"),
        given.get("region"),
    )


class EventReader:
    """The bytes of an answer that comes as server-sent events -> its pieces. Lines end with LF or CRLF.

    reply: the whole answer, once its last event has come.
    """

    def __init__(self) -> None:
        self.reply: ServedReply | None = None
        self._unread, self._lines, self._said = b"", list[bytes](), ""

    def pieces(self, data: bytes) -> Iterator[str]:
        """What these bytes add to the text.

        Raises `ProblemError` where the service says that it failed, and `BrokenAnswer` for what is none of its events.
        """
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if line.rstrip(b"\r"):
                self._lines.append(line.rstrip(b"\r"))
                continue
            event, self._lines = self._lines, []
            yield from self._pieces_of(event)

    def whole(self) -> ServedReply:
        """The answer, at the end of the bytes. Raises `BrokenAnswer` where its end is missing."""
        if self.reply is None:
            raise BrokenAnswer("The answer broke off: its events ended before the one that says that it is whole.")
        return self.reply

    def _pieces_of(self, event: list[bytes]) -> Iterator[str]:
        fields = [(name, value.removeprefix(b" ")) for name, _, value in (line.partition(b":") for line in event)]
        kind = next((value for name, value in reversed(fields) if name == b"event"), b"message")
        data = exchanges.Reply(_OK, {}, b"\n".join(value for name, value in fields if name == b"data"))
        match kind:
            case b"delta":
                yield self._more(exchanges.read(data, lambda document: document["content"] + ""))
            case b"done":
                self.reply = exchanges.read(data, served_reply)
                if self.reply.content.startswith(self._said):
                    yield self._more(self.reply.content[len(self._said) :])
            case b"error":
                raise exchanges.read(data, problem_of_event)

    def _more(self, piece: str) -> str:
        self._said += piece
        return piece

"""The chat completions of an OpenAI-compatible interface: a conversation -> the request, its stream -> the answer.

Pure functions and values; nothing here talks to anybody. Only what such interfaces have in common is asked for and
read: one choice, its text, why it ended.
"""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynrefer.model import Finish, Reply, read_answer, turn_as_jpeg, written_conversation
from dynrefer.service.errors import UpstreamError

if TYPE_CHECKING:
    from dynrefer.model import Conversation, ConverseTurn

MAX_BYTES = 2_000_000  # of a stream; each piece of text has some hundred bytes around it
MAX_CHARS = 16_384  # of an answer
ODD = "The service that answers questions sent something that is no answer."
TOO_LONG = "The service that answers questions sent an answer that is too long."
CUT_OFF = "The service that answers questions ended its answer before it was complete."
FAILED = "The service that answers questions failed while it answered."
WITHHELD = "The service that answers questions withheld its answer."
NONE_OF_THEM = "The service that answers questions gave none of the allowed answers."


def chat_request(turn: ConverseTurn, conversation: Conversation, model: str) -> bytes:
    """The body of a request for a stream, with the image in front of the first question. CPU work of milliseconds."""
    image = base64.b64encode(turn_as_jpeg(turn)).decode()
    messages: list[dict[str, Any]] = [
        {"role": each.role.value, "content": each.text} for each in written_conversation(conversation, turn.size)
    ]
    messages[0]["content"] = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
        {"type": "text", "text": messages[0]["content"]},
    ]
    document = {
        "model": model,
        "messages": messages,
        "max_tokens": conversation.max_tokens,
        "temperature": 0,
        "stream": True,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


@dataclass(slots=True)
class ChatAnswer:
    """What has come of an answer. content: its text so far. pieces: how many it came in, which are about its tokens.
    tokens: what the service says. finish: why it ended, None before. done: whether nothing more comes."""

    content: str = ""
    pieces: int = 0
    tokens: int | None = None
    finish: Finish | None = None
    done: bool = False
    _rest: bytearray = field(default_factory=bytearray)
    _bytes: int = 0

    def feed(self, chunk: bytes) -> None:
        """Some bytes of server-sent events. Raises `UpstreamError`."""
        self._count(chunk)
        for line in self._lines(chunk):
            if self.done:
                return
            if line.startswith(b"data:"):
                self._read(line[5:].strip())

    def feed_document(self, chunk: bytes) -> None:
        """Some bytes of an answer that comes as one document, which `end` reads."""
        self._count(chunk)
        self._rest += chunk

    def end(self, *, document: bool = False) -> None:
        """The connection has ended. document: whether it was one. Raises `UpstreamError` for what is not complete."""
        if document:
            self._add(_parsed(bytes(self._rest)), "message")
        elif self._rest and not self.done:
            self.feed(b"\n\n")  # the last event lacks the empty line behind it
        if self.finish is None:
            raise UpstreamError(CUT_OFF)
        self.done = True

    def _count(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MAX_BYTES:
            raise UpstreamError(TOO_LONG)

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are complete."""
        self._rest += chunk
        *whole, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        yield from (bytes(each.rstrip(b"\r")) for each in whole)

    def _read(self, data: bytes) -> None:
        """The data of one event."""
        if data == b"[DONE]":
            if self.finish is None:
                raise UpstreamError(CUT_OFF)
            self.done = True
        elif data:
            self._add(_parsed(data), "delta")

    def _add(self, document: dict[str, Any], member: str) -> None:
        if document.get("error"):
            raise UpstreamError(FAILED)
        usage = document.get("usage")
        said = usage.get("completion_tokens") if isinstance(usage, dict) else None
        if isinstance(said, int) and 0 <= said <= MAX_BYTES:
            self.tokens = said
        choices = document.get("choices")
        if not isinstance(choices, list) or not all(isinstance(each, dict) for each in choices):
            raise UpstreamError(ODD)
        for choice in choices[:1]:
            part = choice.get(member)
            text = part.get("content") if isinstance(part, dict) else None
            if text is not None and not isinstance(text, str):
                raise UpstreamError(ODD)
            if text:
                self.content += text
                self.pieces += 1
            if len(self.content) > MAX_CHARS:
                raise UpstreamError(TOO_LONG)
            self._finish_by(choice.get("finish_reason"))

    def _finish_by(self, reason: object) -> None:
        if reason == "content_filter":
            raise UpstreamError(WITHHELD)
        if reason is not None:
            self.finish = Finish.LENGTH if reason == "length" else Finish.STOP


def reply_of(answer: ChatAnswer, turn: ConverseTurn, conversation: Conversation) -> Reply:
    """The answer so far, its coordinates as boxes of the image.

    Raises `UpstreamError` for one that is complete and none of the allowed ones.
    """
    tokens = answer.pieces if answer.tokens is None else answer.tokens
    finish, said = answer.finish or Finish.STOP, _characters(answer.content, complete=answer.done)
    if conversation.answers:
        if not answer.done:
            return Reply("")
        chosen = read_answer(said, turn.size).content
        return Reply(_allowed(chosen, conversation.answers), finish=finish, tokens=tokens)
    found = read_answer(said, turn.size, conversation.regions, complete=answer.done)
    return Reply(found.content, found.grounding if conversation.ground else (), finish=finish, tokens=tokens)


def _characters(text: str, *, complete: bool) -> str:
    """JSON may have halves of characters, in one piece or in two: joined where both are there, else replaced. The first
    half at the end of an answer that goes on is left out."""
    halves = text.encode("utf-16-le", "surrogatepass")
    return codecs.getincrementaldecoder("utf-16-le")("replace").decode(halves, final=complete)


def _allowed(content: str, answers: tuple[str, ...]) -> str:
    """Which of the answers a text gives: the one that it is, else the only one that it names."""
    said = _plain(content)
    exact = [each for each in answers if _plain(each) == said]
    named = exact or [each for each in answers if f" {_plain(each)} " in f" {said} "]
    # "light blue" names "blue" too, and means the longer one.
    longest = [each for each in named if not any(_plain(each) in _plain(other) for other in named if other != each)]
    if len(longest) != 1:
        raise UpstreamError(NONE_OF_THEM)
    return longest[0]


def _plain(text: str) -> str:
    return " ".join("".join(each if each.isalnum() else " " for each in text.casefold()).split())


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise UpstreamError(ODD) from None
    if not isinstance(found, dict):
        raise UpstreamError(ODD)
    return found

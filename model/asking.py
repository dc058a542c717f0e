"""What `DynRefer.ask`, or a client, is given -> a `Conversation`, or an error that names the argument. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from dynrefer.model.arguments import region_queries, with_prompts
from dynrefer.model.conversation import Conversation, Message, NamedRegion, Role, conversation_flaws
from dynrefer.model.errors import ConversationError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.points import PointPrompt
from dynrefer.model.prompts import Prompt, Scribble
from dynrefer.model.types import RegionQuery

Pointing = Sequence[float] | Prompt | PointPrompt | Iterable[PointPrompt]


def asked_conversation(
    question: str | Sequence[Message | Mapping[str, str]],
    regions: Mapping[str, Pointing],
    size: ImageSize,
    *,
    ground: bool,
    answers: Sequence[str],
    max_tokens: int,
) -> Conversation:
    """The arguments are those of `DynRefer.ask`. size: (W, H) of the upright image.

    Raises `ConversationError`, which names the place, and as `region_queries` does.
    """
    if not isinstance(regions, Mapping):
        raise ConversationError(f"'regions' must be a dict from names to regions, and not {regions!r:.70}.", "regions")
    messages = asked_messages(question, tuple(regions), answers=answers, max_tokens=max_tokens)
    named = tuple(NamedRegion(name, _pointed(given, size)) for name, given in regions.items())
    return Conversation(messages, named, ground, tuple(answers), max_tokens)


def asked_messages(
    question: str | Sequence[Message | Mapping[str, str]],
    regions: Sequence[str],
    *,
    answers: Sequence[str],
    max_tokens: int,
) -> tuple[Message, ...]:
    """The messages of a question, or of a conversation. regions: their names.

    Raises `ConversationError`, which names the place, for what is wrong with any of the arguments.
    """
    listed = isinstance(answers, Sequence) and not isinstance(answers, str)
    if not listed or not all(isinstance(each, str) for each in answers):
        raise ConversationError(f"'answers' must be a list of texts, and not {answers!r:.70}.", "answers")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise ConversationError(
            f"'max_tokens' must be a whole number from 1 on, and not {max_tokens!r:.70}.", "max_tokens"
        )
    if not isinstance(question, Sequence):
        raise ConversationError(f"A question is a text or a list of messages, and not {question!r:.70}.", "messages")
    for name in regions:
        if not isinstance(name, str):
            raise ConversationError(f"The name of a region must be a text, and not {name!r:.70}.", "regions")
    messages = (Message(Role.USER, question),) if isinstance(question, str) else tuple(map(_message, question))
    for flaw in conversation_flaws(messages, tuple(regions), tuple(answers)):
        raise ConversationError(flaw.detail, "/".join(map(str, flaw.path)))
    return messages


def points_of(given: Any) -> Any:
    """The points that a region is given as, as a list or tuple; None where it is a box or a prompt."""
    if isinstance(given, PointPrompt):
        return (given,)
    several = isinstance(given, list | tuple) and given and not isinstance(given[0], Real)
    return given if several else None


def _message(given: Message | Mapping[str, str]) -> Message:
    try:
        message = given if isinstance(given, Message) else Message(Role(given["role"]), given["content"])
    except (KeyError, TypeError, ValueError):
        message = None
    if message is None or not isinstance(message.content, str):
        raise ConversationError(
            f"A message is a `Message`, or {{'role': 'user', 'content': 'text'}}, and not {given!r:.70}.", "messages"
        )
    return message


def _pointed(given: Any, size: ImageSize) -> RegionQuery:
    """A region's box and mask; the mask of points is not known yet."""
    if (points := points_of(given)) is not None:
        return region_queries([], None, (), None, 10, None, points=[points])[0]
    # A scribble has no mask: it says nothing of where the object ends.
    masked = isinstance(given, Prompt) and not isinstance(given, Scribble)
    queries = region_queries([given], None, (), None, 10, None, highlight=masked)
    placed = with_prompts(queries, {0: given} if isinstance(given, Prompt) else {}, size)
    if placed[0].flaw is not None:
        raise placed[0].flaw
    return replace(placed[0], highlight=False)

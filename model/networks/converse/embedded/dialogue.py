"""A conversation -> the tokens that the network reads, and tokens that it writes -> an answer with spans. No torch.

The order is: asked regions, then each message behind a mark of who says it, then the allowed answers, each before a
mark to point at, then the mark of the assistant, behind which the answer is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dynrefer.model.networks.converse.embedded.lexicon import (
    ASSISTANT,
    CHOICE,
    NOUN,
    REFERENCE,
    REGION_SLOT,
    UNKNOWN,
    USER,
    Lexicon,
    Noun,
)

IN_REGION, IN_USER, IN_ASSISTANT, IN_ANSWERS = range(4)  # roles of tokens
_CLOSING = frozenset(".,?!:;")


@dataclass(frozen=True, slots=True)
class Token:
    """word: its token. text: as it was read. noun: of a noun. region: place of the region among the asked ones that it
    is, or refers to; -1: none. slot: whether it is the region."""

    word: int
    role: int
    text: str = ""
    noun: Noun | None = None
    region: int = -1
    slot: bool = False


def read_dialogue(
    lexicon: Lexicon, messages: Sequence[tuple[str, str]], regions: Sequence[str], answers: Sequence[str]
) -> list[Token]:
    """messages: (role, content), of which the last is the user's. regions: their names. answers: the allowed ones."""
    tokens = [Token(REGION_SLOT, IN_REGION, region=place, slot=True) for place in range(len(regions))]
    for role, content in messages:
        own = IN_USER if role == "user" else IN_ASSISTANT
        tokens.append(Token(USER if role == "user" else ASSISTANT, own))
        tokens += _words(lexicon, content, regions, own)
    for answer in answers:
        tokens += _words(lexicon, answer, regions, IN_ANSWERS)
        tokens.append(Token(CHOICE, IN_ANSWERS))
    return [*tokens, Token(ASSISTANT, IN_ASSISTANT)]


def last_plural(tokens: Sequence[Token]) -> int | None:
    """The place of the last noun in the plural that the user said, which an answer may take up."""
    for place in reversed(range(len(tokens))):
        noun = tokens[place].noun
        if noun is not None and noun.plural and tokens[place].role == IN_USER:
            return place
    return None


def _words(lexicon: Lexicon, text: str, regions: Sequence[str], role: int) -> Iterator[Token]:
    for piece in lexicon.read(text):
        if piece.region is not None:
            known = piece.region in regions
            yield Token(REFERENCE if known else UNKNOWN, role, region=regions.index(piece.region) if known else -1)
        else:
            yield Token(piece.word, role, piece.text, piece.noun)


def named(place: int = -1) -> Token:
    """What stands in an answer for the name of an object. place: of an asked region, where it is one."""
    return Token(NOUN, IN_ASSISTANT, region=place)


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A name of an answer: of the object at this place among the network's keys."""

    place: int
    name: str


@dataclass(frozen=True, slots=True)
class WrittenText:
    """text: the answer. spans: per name its characters [start, end). stable: so many characters stay as they are."""

    text: str
    spans: tuple[tuple[int, int], ...]
    stable: int


def write(parts: Sequence[str | WrittenName], *, done: bool) -> WrittenText:
    """Words and names -> text: spaces, "a" or "an" by the sound that follows, a capital in front."""
    texts = [part if isinstance(part, str) else part.name for part in parts]
    text, spans, stable = "", [], 0
    for place, part in enumerate(parts):
        word = texts[place]
        if part in ("a", "an") and place + 1 < len(texts):
            word = "an" if texts[place + 1][:1].lower() in set("aeiou") else "a"
        text += "" if not text or word in _CLOSING else " "
        start = len(text)
        text += word[:1].upper() + word[1:] if not start else word
        if isinstance(part, WrittenName):
            spans.append((start, len(text)))
        if part not in ("a", "an"):
            stable = len(text)
    return WrittenText(text, tuple(spans), len(text) if done else stable)

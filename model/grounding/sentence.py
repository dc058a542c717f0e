"""A sentence -> its noun phrases, what describes each of them, and how they relate, by rule: no parser of the language.

    the small red cup left of the dogs   ->   "the small red cup": cup, small, red, left of #1;   "the dogs": dog, many

Words that join (prepositions, conjunctions, verbs of being) end a phrase; what stands between them is one. Its head is
what is left at the end when determiners, numbers and known modifiers are taken away. A relation belongs to the phrase
before it; a direction behind a place ("the cup on the table left of the dog") to the object that is placed there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from dynrefer.model.finding import NounPhrase
from dynrefer.model.grounding import words as known

# Letters with their combining marks, ' and - inside a word; signs. Quotes are passed over.
_LETTER = r"(?:[^\W_]|[\u0300-\u036f\u064b-\u065f\u0900-\u0eff\u200c\u200d])"
_TOKEN = re.compile(rf"[^\W_]{_LETTER}*(?:[-'\u2019][^\W_]{_LETTER}*)*|[^\s\"'\u2018\u2019\u201c\u201d]")
_ENDS = frozenset(".;:!?")
_MOST_PHRASES = 32
_MOST_TOKENS = 1000  # of a sentence that are read


@dataclass(frozen=True, slots=True)
class Relation:
    """How the phrase's object is placed to those of other phrases. targets: their places among the sentence's phrases;
    "between" has two, or one that speaks of several objects; every other kind one."""

    kind: str
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """A noun phrase, read. noun: what it is, "" for anything. modifiers: as attributes call them. ranks: as in `RANKS`.

    many: whether it speaks of several objects. ordinal: the how manieth by its last rank. contents: of "a bowl of
    soup", whose noun is the bowl.
    """

    phrase: NounPhrase
    noun: str
    modifiers: tuple[str, ...] = ()
    ranks: tuple[str, ...] = ()
    many: bool = False
    relations: tuple[Relation, ...] = ()
    ordinal: int = 1
    contents: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    """text: in lower case; start, end: its characters in the sentence."""

    text: str
    start: int
    end: int


@dataclass(slots=True)
class _Chunk:
    """Tokens of one phrase, what is said of it elsewhere, and the relation that leads to it.

    link: the word that led to it, "" where none did. clause: the number of the clause that it stands in.
    """

    clause: int
    relation: str = ""
    link: str = ""
    tokens: list[_Token] = field(default_factory=list)
    modifiers: list[str] = field(default_factory=list)
    ranks: list[str] = field(default_factory=list)

    def content(self) -> list[str]:
        """The words that say what the object is or how; none where only determiners are there."""
        return [token.text for token in self.tokens if token.text not in known.DETERMINERS]

    def nouns(self) -> list[str]:
        """The words that are left without what describes."""
        return [word for word in self.content() if not _describes(word)]


def noun_phrases(sentence: str) -> tuple[NounPhrase, ...]:
    """The noun phrases of a sentence, in order; at most 32, of its first 1,000 words."""
    return tuple(each.phrase for each in read_sentence(sentence))


def read_sentence(sentence: str) -> tuple[GroundedPhrase, ...]:
    """The noun phrases with what is said of their objects. A sentence without one has none."""
    chunks = _with_patterns([chunk for chunk in _Chunker(sentence).chunks if chunk.content()])[:_MOST_PHRASES]
    relations = _relations(chunks)
    return tuple(_read(sentence, chunk, tuple(relations.get(place, ()))) for place, chunk in enumerate(chunks))


class _Chunker:
    """Cuts a sentence at the words that join."""

    def __init__(self, sentence: str) -> None:
        self.tokens = _tokens(sentence)
        self.words = [token.text for token in self.tokens]
        self.chunks = [_Chunk(0)]
        self._place = 0
        self._clause = 0
        while self._place < len(self.tokens):
            self._place += self._side() or self._relation() or self._predicate() or self._one_word()

    def _word(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return self.words[place] if place < len(self.words) else ""

    def _side(self) -> int:
        """Where in the image: "on the left", "third from the right"; "on the left of" is a relation."""
        if self._word() not in known.SIDE_LEADS or self._word(1) != "the" or self._word(2) not in known.SIDES:
            return 0
        length = 4 if self._word(3) in ("side", "edge", "part", "half") else 3
        if self._word(length) == "of":
            if self._word(length + 1) != "the" or self._word(length + 2) not in known.WHOLE:
                return 0
            length += 3
        if self._is_noun(length):
            return 0
        self.chunks[-1].ranks.append(known.SIDES[self._word(2)])
        return length

    def _is_noun(self, ahead: int) -> bool:
        """Whether the words before belong to it: "on the bottom shelf"."""
        word = self._word(ahead)
        over = (known.JOINERS, known.DETERMINERS, known.SIDE_LEADS)
        return word[:1].isalnum() and not any(word in each for each in over) and not self._wording(ahead)[1]

    def _wording(self, ahead: int = 0) -> tuple[str, int]:
        for length in range(known.LONGEST_RELATION, 0, -1):
            place = self._place + ahead
            kind = known.RELATIONS.get(" ".join(self.words[place : place + length]))
            if kind:
                return kind, length
        return "", 0

    def _relation(self) -> int:
        kind, length = self._wording()
        if length:
            before = "" if self.chunks[-1].tokens else self.chunks[-1].link
            self.chunks.append(_Chunk(self._clause, kind, before))
        return length

    def _predicate(self) -> int:
        """As in "... is small and red": said of the clause's first phrase, or of the last where "that" leads to it."""
        if self._word() not in known.BEING:
            return 0
        length, said, negated = 1, [], False
        while (word := self._word(length)) in known.MODIFIERS or word in known.INTENSIFIERS or word in ("and", "not"):
            negated = negated or word == "not"
            said += [known.MODIFIERS[word]] if word in known.MODIFIERS and not negated else []
            length += 1
        spoken = [chunk for chunk in self.chunks if chunk.clause == self._clause and chunk.content()]
        if length == 1 or not spoken or self._is_noun(length) or self._word(length - 1) == "and":
            return 0
        led = self._place > 0 and self.words[self._place - 1] in ("that", "which", "who")
        spoken[-1 if led else 0].modifiers.extend(said)
        self.chunks.append(_Chunk(self._clause))
        return length

    def _one_word(self) -> int:
        token, word, last = self.tokens[self._place], self._word(), self.chunks[-1]
        if word in ("and", "or", ",") and self._continues_modifiers(last):
            if word != ",":
                last.tokens.append(token)
        elif word == "of" and _takes_of(last):
            last.tokens.append(token)
        elif word in known.JOINERS or not word[0].isalnum():
            self._clause += word in _ENDS
            held = last.relation if not last.tokens and word not in _ENDS else ""
            link = last.link if held and last.link else word
            self.chunks.append(_Chunk(self._clause, held, link))
        elif (word in known.DETERMINERS and last.content() and last.tokens[-1].text != "of") or self._opens(last):
            self.chunks.append(_Chunk(self._clause, tokens=[token]))
        elif word.endswith("ing") and known.is_participle(word) and last.nouns():
            self.chunks.append(_Chunk(self._clause, link=word))
        else:
            last.tokens.append(token)
        return 1

    def _opens(self, last: _Chunk) -> bool:
        """Whether the word describes a new object: "on grass large purple grapes", "at night red cars"."""
        word, bare = self._word(), all(token.text not in known.DETERMINERS for token in last.tokens)
        describes = word in known.MODIFIERS and (word not in known.NOUNS_TOO or self._word(1) in known.MODIFIERS)
        leads = bool(last.relation) or last.link == "at"
        return leads and bare and describes and bool(last.nouns()) and self._is_noun(1)

    def _continues_modifiers(self, last: _Chunk) -> bool:
        """As in "the black and white cat", "a small, red cup": what follows still describes the same."""
        content = [word for word in last.content() if word != "and"]
        described = bool(content) and all(word in known.MODIFIERS for word in content)
        return described and self._word(1) in known.MODIFIERS


def _tokens(sentence: str) -> list[_Token]:
    found = islice(_TOKEN.finditer(sentence), _MOST_TOKENS)
    tokens = [_Token(each.group().lower().replace("\u2019", "'"), each.start(), each.end()) for each in found]
    joined: list[_Token] = []
    for token in tokens:
        if token.text == "down" and joined and joined[-1].text == "upside":
            joined[-1] = _Token("upside-down", joined[-1].start, token.end)
        else:
            joined.append(token)
    return joined


def _describes(word: str) -> bool:
    others = (known.INTENSIFIERS, known.ORDINALS, known.NUMBERS, ("and", "of"))
    return word in known.MODIFIERS or word in known.RANKS or any(word in each for each in others)


def _takes_of(chunk: _Chunk) -> bool:
    """As in "a pair of", "a bowl of", "the larger of", "one of", "two of"."""
    words = [token.text for token in chunk.tokens]
    if not words or "of" in words:
        return False
    leads = (known.COLLECTIVES, known.CONTAINERS, known.RANKS, known.NUMBERS, known.EVERY, ("one", "some"))
    return any(words[-1] in each for each in leads)


def _with_patterns(chunks: list[_Chunk]) -> list[_Chunk]:
    """Without "with stripes" and "with a dotted pattern", which describe the phrase before, and "in the picture"."""
    kept: list[_Chunk] = []
    for place, chunk in enumerate(chunks):
        nouns = chunk.nouns()
        noun = nouns[-1] if nouns else ""
        if kept and chunk.relation == "with" and noun in known.PATTERNS:
            kept[-1].modifiers.append(known.PATTERNS[noun])
        elif kept and chunk.relation == "with" and noun == known.PATTERN:
            kept[-1].modifiers += [known.MODIFIERS[word] for word in chunk.content() if word in known.MODIFIERS]
        elif _of_no_object(chunks, place, noun):
            continue
        elif nouns or chunk.link != "not":
            kept.append(chunk)
    return kept


def _of_no_object(chunks: Sequence[_Chunk], place: int, noun: str) -> bool:
    """Whether a phrase speaks of the whole picture: "in the picture", "a photo of", "at night"."""
    leads_on = place + 1 < len(chunks) and chunks[place + 1].link == "of"
    of_picture = noun in known.WHOLE and (chunks[place].relation == "inside" or leads_on)
    return of_picture or (noun in known.TIMES and chunks[place].link == "at")


def _relations(chunks: Sequence[_Chunk]) -> dict[int, list[Relation]]:
    """Of each phrase that has some, by its place."""
    found: dict[int, list[Relation]] = {}
    subjects: dict[int, int] = {}  # the place of a phrase that a relation leads to -> that of the phrase it is said of
    for place, chunk in enumerate(chunks):
        if not chunk.relation:
            continue
        subject = place - 1
        if subject < 0 or chunks[subject].clause != chunk.clause:
            later = range(place + 1, len(chunks))  # "left of the dog is a cat"
            free = (each for each in later if not chunks[each].relation and chunks[each].clause == chunk.clause)
            subject = next((each for each in free if chunk.relation != "between" or chunks[each].link != "and"), -1)
            if subject < 0:
                continue
        elif subject in subjects and _of_subject(chunk, chunks[subject]):
            subject = subjects[subject]
        subjects[place] = subject
        targets: tuple[int, ...] = (place,)
        if chunk.relation == "between" and _follows(chunks, place):
            targets = (place, place + 1)
            subjects[place + 1] = subject
        found.setdefault(subject, []).append(Relation(chunk.relation, targets))
    return found


def _of_subject(chunk: _Chunk, before: _Chunk) -> bool:
    """Whether a relation is said of the object that the phrase before places, and not of that phrase."""
    return chunk.link in ("and", ",") or (before.relation in known.PLACES and chunk.relation in known.DIRECTIONS)


def _follows(chunks: Sequence[_Chunk], place: int) -> bool:
    """Whether the next phrase is the second of "between ... and ..."."""
    return place + 1 < len(chunks) and chunks[place + 1].link == "and" and not chunks[place + 1].relation


def _read(sentence: str, chunk: _Chunk, relations: tuple[Relation, ...]) -> GroundedPhrase:
    tokens = list(chunk.tokens)
    # "a dog covered with ...": what it does ends the phrase, unless it is all that there is.
    while len(tokens) > 1 and known.is_participle(tokens[-1].text) and not _opens(tokens[-2].text):
        tokens.pop()
    start, end = tokens[0].start, tokens[-1].end
    words = [token.text for token in tokens]
    words, contents, one = _main_part(words)
    head = _Head(words, list(chunk.modifiers), list(chunk.ranks))
    noun = " ".join(head.nouns)
    several = head.several or any(token.text in known.EVERY for token in tokens)
    many = not one and head.ordinal == 1 and (several or known.is_plural(noun.rpartition(" ")[2]))
    return GroundedPhrase(
        NounPhrase(sentence[start:end], (start, end)),
        noun="" if noun in known.ANYTHING else noun,
        modifiers=tuple(dict.fromkeys(head.modifiers)),
        ranks=tuple(head.ranks),
        many=many,
        relations=relations,
        ordinal=head.ordinal,
        contents=contents,
    )


def _opens(word: str) -> bool:
    return word in known.DETERMINERS or _describes(word)


def _main_part(words: list[str]) -> tuple[list[str], str, bool]:
    """The words that speak of the object, what is in it, and whether it is one of several.

    "a pair of dogs" speaks of dogs, "a bowl of soup" of a bowl, "the larger of the two dogs" and "one of the dogs" of
    one.
    """
    if "of" not in words[:-1]:
        return words, "", False
    place = words.index("of")
    lead, rest = words[:place], words[place + 1 :]
    if lead[-1] in known.CONTAINERS:
        return lead, " ".join(word for word in rest if word not in known.DETERMINERS), False
    if lead[-1] == "one" or lead[-1] in known.RANKS:
        said = [*lead, *rest]
        return [word for word in said if word not in known.NUMBERS and word != "one"], "", True
    return [*(word for word in lead if word not in known.COLLECTIVES), *rest], "", False


class _Head:
    """Reads the words of a phrase: nouns are what is left."""

    def __init__(self, words: Sequence[str], modifiers: list[str], ranks: list[str]) -> None:
        self.nouns: list[str] = []
        self.modifiers, self.ranks = modifiers, ranks
        self.ordinal, self.several = 1, False
        for place, word in enumerate(words):
            self._read(word, words[place + 1] if place + 1 < len(words) else "", alone=len(words) == 1)
        if self.ordinal > 1 and not self.ranks:
            self.ranks.append("leftmost")  # as one reads

    def _read(self, word: str, behind: str, *, alone: bool) -> None:
        shade, _, colour = word.partition("-")
        if word in known.DETERMINERS or word in known.INTENSIFIERS or word == "and":
            return
        if word in known.NUMBERS or word.isdigit() or (word == "one" and behind):
            self.several = self.several or word not in ("1", "one")
        elif word in known.ORDINALS and not alone:
            self.ordinal = known.ORDINALS[word]
        elif word in known.RANKS:
            self.ranks.append(known.RANKS[word])
        elif word in known.SHADES and known.MODIFIERS.get(behind) in known.COLOURS:
            return  # "light blue" is blue
        elif shade in known.SHADES and known.MODIFIERS.get(colour) in known.COLOURS:
            self.modifiers.append(known.MODIFIERS[colour])
        elif word in known.MODIFIERS and (behind or word not in known.NOUNS_TOO):
            self.modifiers.append(known.MODIFIERS[word])
        elif word.endswith("'s") and behind:
            self.nouns.clear()  # whose it is
            self.modifiers.clear()
        else:
            self.nouns.append(word)

"""Reads the conversation of one turn in parts that end where an answer begins, and then the answer, token by token.

Parts that were read are kept in the converser's cache, under all that was read up to there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.cache import ByteCache
from dynrefer.model.conversing import ConverseTurn
from dynrefer.model.errors import raise_if_stopped
from dynrefer.model.networks.converse.embedded.dialogue import IN_ASSISTANT, Token, last_plural, named
from dynrefer.model.networks.converse.embedded.files import ConverserFiles
from dynrefer.model.networks.converse.embedded.inputs import Hearing, Referents
from dynrefer.model.networks.converse.embedded.lexicon import ASSISTANT, CHOICE, END, NOUNS, SPECIAL
from dynrefer.model.networks.converse.embedded.reading import Keys
from dynrefer.model.networks.converse.embedded.seen import Floats
from dynrefer.model.suppression import overlaps

_SAME = 0.6  # overlap of two boxes from which they are of one object
_NEVER = tuple(each for each in range(len(SPECIAL)) if each not in (END, NOUNS))  # tokens that no answer holds
_ALLOWED = -1e3  # the network gives far less to places at which may not be pointed


@dataclass(frozen=True, slots=True, eq=False)
class ReadSoFar:
    """keys: of the image and all tokens so far. logits: (words + N,) of the next token."""

    keys: Keys
    logits: Tensor

    @property
    def nbytes(self) -> int:
        return bytes_of(self.keys) + self.logits.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class BegunAnswer:
    """An answer that goes on. written: its tokens. sure: the logarithm of each one's probability. read: with them."""

    written: tuple[int, ...]
    sure: tuple[float, ...]
    read: ReadSoFar


class ConversationReader:
    """Of one turn. files: the network and its words. properties: (words, A), of every word. cache: the converser's.

    tokens: of the conversation. seen: keys of the image."""

    def __init__(
        self,
        files: ConverserFiles,
        properties: Tensor,
        cache: ByteCache[Any],
        turn: ConverseTurn,
        tokens: list[Token],
        hearing: Hearing,
        referents: Referents,
        seen: Keys,
    ) -> None:
        self._network, self._lexicon, self._vectors, self._cache = files.network, files.lexicon, files.vectors, cache
        self._tokens, self._referents, self._seen, self._properties = tokens, referents, seen, properties
        self._objects = seen.mask.shape[1] - 1
        self._nouns = hearing.rows(len(tokens), referents.objects.categories.shape[1])
        ids, boxes = [each.id for each in turn.conversation.regions], referents.objects.boxes[self._objects :]
        self._name = turn.digest + repr((ids, boxes.tolist())).encode()
        self._match_width = referents.match.shape[1]

    def prompt(self, should_stop: Callable[[], bool]) -> ReadSoFar:
        """All of the conversation read."""
        ends = [place + 1 for place, each in enumerate(self._tokens) if each.word == ASSISTANT and not each.noun]
        state = ReadSoFar(self._seen, torch.empty(0))
        start = 0
        for end in dict.fromkeys((*ends, len(self._tokens))):
            key = self._key(end)
            known = self._cache.get(key)
            if isinstance(known, ReadSoFar):
                state = replace(known, keys=self._matched(known.keys, end))
            else:
                raise_if_stopped(should_stop)
                state = self._read(state, start, end)
                self._cache.put(key, state, state.nbytes)
            start = end
        return state

    def begun(self, written: tuple[int, ...], should_stop: Callable[[], bool]) -> BegunAnswer:
        """The answer so far: what was kept of the piece before, or read again."""
        known = self._cache.get(self._key_of_answer)
        if isinstance(known, BegunAnswer) and known.written == written:
            return known
        state, sure = self.prompt(should_stop), list[float]()
        for token in written:
            raise_if_stopped(should_stop)
            sure.append(float(state.logits.log_softmax(-1)[token]))
            state = self.after(state, token)
        return BegunAnswer(written, tuple(sure), state)

    def keep(self, begun: BegunAnswer) -> None:
        """For the next piece, in the place of the one before."""
        self._cache.put(self._key_of_answer, begun, begun.read.nbytes)

    @property
    def _key_of_answer(self) -> bytes:
        return b"answer" + self._key(len(self._tokens))

    def after(self, state: ReadSoFar, token: int) -> ReadSoFar:
        """With one token of the answer more."""
        words = self._lexicon.size
        plural = self._plural(state.keys.mask.shape[1]) if token == NOUNS else None
        if plural is not None:
            nouns = self._nouns[0][plural : plural + 1], self._nouns[1][plural : plural + 1]
            return self._extended(state, [replace(self._tokens[plural], role=IN_ASSISTANT)], [-1], nouns)
        if token < words:
            given, place = Token(token, 2, self._lexicon.text_of(token) if token >= len(SPECIAL) else ""), -1
        else:
            given, place = named(), self.row_of(token - words)
        categories = self._referents.objects.categories.shape[1]
        empty = np.zeros((1, categories), np.float32), np.zeros((1, self._nouns[1].shape[1]), np.float32)
        return self._extended(state, [given], [place], empty)

    def same_objects(self, written: Sequence[int]) -> list[int]:
        """The tokens of all objects that an answer has named, and of all others in nearly their boxes."""
        words = self._lexicon.size
        named = [self.row_of(token - words) for token in written if token >= words]
        if not named:
            return []
        boxes = self._referents.objects.boxes
        same = set(np.flatnonzero(overlaps(boxes[named], boxes).max(axis=0) >= _SAME).tolist()) | set(named)
        places = [*range(self._objects)]
        places += [self._objects + 1 + place for place, each in enumerate(self._tokens) if each.slot]
        return [words + place for place in places if self.row_of(place) in same]

    def row_of(self, place: int) -> int:
        """The referent at a place among the keys: an object of the image, or an asked region."""
        if place < self._objects:
            return place
        return self._objects + self._tokens[place - self._objects - 1].region

    def _read(self, state: ReadSoFar, start: int, end: int) -> ReadSoFar:
        part = self._tokens[start:end]
        places = [-1 if each.region < 0 else self._objects + each.region for each in part]
        return self._extended(state, part, places, (self._nouns[0][start:end], self._nouns[1][start:end]))

    def _extended(
        self,
        state: ReadSoFar,
        part: Sequence[Token],
        places: Sequence[int],
        nouns: tuple[Floats, Floats],
    ) -> ReadSoFar:
        tokens = self._referents.tokens(self._lexicon, self._vectors, part, places, nouns, self._properties)
        own = self._network.read(tokens, state.keys, self._seen.mask.shape[1])
        keys = state.keys.followed_by(own)
        length = keys.mask.shape[1]
        pointable, until = self._pointable(length), torch.tensor([[length]])
        logits = self._network.logits(own.hidden[:, -1:], keys, pointable, self._properties, until)[0, 0]
        logits[[*_NEVER]] = -torch.inf
        if self._plural(length) is None:
            logits[NOUNS] = -torch.inf
        return ReadSoFar(keys, logits)

    def _plural(self, length: int) -> int | None:
        """See `last_plural`, of the tokens up to so many keys."""
        return last_plural(self._tokens[: length - self._objects - 1])

    def _pointable(self, length: int) -> Tensor:
        """Of so many places. What is read later decides nothing: what is kept is for all that begin so."""
        seen = self._objects + 1
        read = self._tokens[: length - seen]
        choice = any(each.word == CHOICE for each in read)
        found = torch.zeros(1, length, dtype=torch.bool)
        found[0, : self._objects] = not choice
        for place, each in enumerate(read):
            found[0, seen + place] = each.word == CHOICE if choice else each.slot
        return found

    def _key(self, end: int) -> bytes:
        """Of what has been read up to there."""
        part = [(each.word, each.role, each.text, each.region) for each in self._tokens[:end]]
        return hashlib.sha256(b"read" + self._name + repr(part).encode()).digest()

    def _matched(self, keys: Keys, end: int) -> Keys:
        """Kept keys, with what matches the nouns of this conversation, which may be more than those of then."""
        rows = torch.zeros(1, end, self._match_width)
        for place, each in enumerate(self._tokens[:end]):
            if each.slot:
                rows[0, place] = torch.from_numpy(self._referents.match[self._objects + each.region])
        return replace(keys, match=torch.cat((self._seen.match, rows), dim=1))


def without_what_was_said(logits: Tensor, written: Sequence[int], named: Sequence[int], words: int) -> Tensor:
    """The logits without objects that the answer has named already, for none is named twice, and without its last word,
    which nobody says twice in a row. Where an object is to be named, it is one of the others, if there is one.

    named: the tokens of all that is one of the named objects."""
    if not written:
        return logits
    found = logits.clone()
    found[[written[-1], *named]] = -torch.inf
    if int(logits.argmax()) >= words and bool((found[words:] > _ALLOWED).any()):
        found[:words] = -torch.inf
    return found


def bytes_of(keys: Keys) -> int:
    single = [getattr(keys, field.name) for field in fields(keys) if field.name not in ("keys", "values")]
    return sum(each.nbytes for each in (*single, *keys.keys, *keys.values))

"""The embedded converser: perceives an image once, reads a conversation about it, writes the answer token by token.

What is dear to compute again is kept in one bounded cache: what is seen of an image and of asked regions, and the
network's keys and values of the image, of a conversation up to each question and of an answer up to its latest piece.
A conversation is always read in the same parts, whether a part was kept or not, so that the cache changes no number.
One turn at a time: so nothing depends on the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.cache import ByteCache
from dynrefer.model.conversation import REGION
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import ConversationError, raise_if_stopped
from dynrefer.model.networks.converse.embedded.answering import Answering, chosen_reply, written_reply
from dynrefer.model.networks.converse.embedded.dialogue import IN_ASSISTANT, IN_USER, Token, named, read_dialogue
from dynrefer.model.networks.converse.embedded.files import ConverserFiles
from dynrefer.model.networks.converse.embedded.inputs import Hearing, Referents, image_slots
from dynrefer.model.networks.converse.embedded.lexicon import ASSISTANT, CHOICE, END, NOUNS, SPECIAL
from dynrefer.model.networks.converse.embedded.meant import meant_box
from dynrefer.model.networks.converse.embedded.preparation import EmbeddedConverserSpec
from dynrefer.model.networks.converse.embedded.reading import Keys
from dynrefer.model.networks.converse.embedded.seen import Floats, SeenImage, SeenObjects
from dynrefer.model.suppression import overlaps

if TYPE_CHECKING:
    from dynrefer.model.evidence.word_placement import WordPlacement
    from dynrefer.model.networks.converse.embedded.perception import Perceiver

CACHE_BYTES = 1 << 26
MOST_TOKENS = 96  # of an answer
# Tokens of a conversation; of a longer one the oldest turns are not read. What pairs of them need takes memory by the
# square of it: 150 MB at this length.
MOST_READ = 512
_SAME = 0.6  # overlap of two boxes from which they are of one object
_NEVER = tuple(each for each in range(len(SPECIAL)) if each not in (END, NOUNS))  # tokens that no answer holds


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """keys: of the image and all tokens so far. logits: (words + N,) of the next token."""

    keys: Keys
    logits: Tensor

    @property
    def nbytes(self) -> int:
        return _bytes_of(self.keys) + self.logits.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """An answer that goes on. written: its tokens. sure: the logarithm of each one's probability. read: with them."""

    written: tuple[int, ...]
    sure: tuple[float, ...]
    read: _Read


class EmbeddedConverser:
    """A `Converser`. files: the network and its words. placement: of nouns that the lexicon lacks; None without
    evidence of photographs. categories: the describer's."""

    max_tokens = MOST_TOKENS

    def __init__(
        self,
        files: ConverserFiles,
        perceiver: Perceiver,
        placement: WordPlacement | None,
        categories: Sequence[str],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.spec = EmbeddedConverserSpec()
        self.perceiver = perceiver
        self._network, self._lexicon, self.calibration = files.network, files.lexicon, files.calibration
        self._placement, self._categories = placement, tuple(categories)
        self.properties = torch.from_numpy(files.lexicon.property_rows(files.network.config.attributes))
        self._cache: ByteCache[SeenImage | SeenObjects | Keys | _Read | _Begun] = ByteCache(cache_bytes)

    @property
    def num_bytes(self) -> int:
        """See `Converser`."""
        return self._cache.stats.bytes

    @property
    def tiled(self) -> bool:
        """Whether a large image is also searched in tiles, so that small objects are found."""
        return self.perceiver.tiled

    @tiled.setter
    def tiled(self, value: bool) -> None:
        self.perceiver.tiled = value
        self._cache.clear()

    def forget(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    @torch.inference_mode()
    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """See `Converser`."""
        return [self._answer(_with_regions_that_are_meant(turn), should_stop) for turn in turns]

    def _answer(self, turn: ConverseTurn, should_stop: Callable[[], bool]) -> Spoken:
        raise_if_stopped(should_stop)
        conversation = turn.conversation
        tokens = self._tokens(turn)
        image = self._image(turn)
        raise_if_stopped(should_stop)
        regions = self._regions(turn, image, should_stop)
        photographed = any(each.photograph for each in (*image.objects.identities, *regions.identities))
        hearing = Hearing(self._lexicon, tokens, self._placement, photographed=photographed)
        referents = self._referents(image, regions, hearing)
        before = self._seen_keys(turn, image, hearing)
        reader = _Reader(self, turn, tokens, hearing, referents, before)
        answering = Answering(self._lexicon, self.calibration, turn, image, regions, hearing, self._categories)
        if conversation.answers:
            marks = [before.mask.shape[1] + place for place, each in enumerate(tokens) if each.word == CHOICE]
            logits = reader.prompt(should_stop).logits[self._lexicon.size :]
            return chosen_reply(answering, logits[marks])
        limit = min(conversation.max_tokens, MOST_TOKENS)
        begun = reader.begun(turn.written, should_stop)
        written, sure, state, ended = list(begun.written), list(begun.sure), begun.read, False
        for _ in range(turn.piece):
            raise_if_stopped(should_stop)
            token = int(_unsaid(state.logits, written, reader.same_objects(written), self._lexicon.size).argmax())
            sure.append(float(state.logits.log_softmax(-1)[token]))
            if token == END or len(written) >= limit:
                ended = True
                break
            written.append(token)
            state = reader.after(state, token)
        if not ended:
            reader.keep(_Begun(tuple(written), tuple(sure), state))
        return written_reply(answering, tuple(written), sure, ended=ended, complete=ended and token == END)

    def _tokens(self, turn: ConverseTurn) -> list[Token]:
        """Of the conversation, without the oldest turns of a long one. Raises `ConversationError` where the question
        alone is too long."""
        asked = turn.conversation
        ids = [each.id for each in asked.regions]
        messages = [(str(each.role), each.content) for each in asked.messages]
        found = read_dialogue(self._lexicon, messages[-1:], ids, asked.answers)
        if len(found) > MOST_READ:
            raise ConversationError(
                f"The question, its regions and the answers allowed have {len(found)} words and marks, and this "
                f"converser reads at most {MOST_READ}: shorten them.",
                "messages",
            )
        # From the newest turn back, so that what is not read costs nothing.
        first, left = len(messages) - 1, MOST_READ - len(found)
        while first > 0:
            left -= len(read_dialogue(self._lexicon, messages[first - 2 : first], ids, ())) - len(ids) - 1
            if left < 0:
                break
            first -= 2
        return read_dialogue(self._lexicon, messages[first:], ids, asked.answers)

    def _image(self, turn: ConverseTurn) -> SeenImage:
        key = b"image" + turn.digest
        found = self._cache.get(key)
        if not isinstance(found, SeenImage):
            found = self.perceiver.image(turn.pixels, turn.size)
            self._cache.put(key, found, found.nbytes)
        return found

    def _regions(self, turn: ConverseTurn, image: SeenImage, should_stop: Callable[[], bool]) -> SeenObjects:
        """What each asked region shows, each by itself, so that it does not depend on the others. Its box is that
        of the object that it means."""
        parts = [_none_of(image.objects)]
        for region in turn.conversation.regions:
            box = meant_box(region.query, image.objects)
            key = hashlib.sha256(b"region" + turn.digest + repr(box).encode()).digest()
            found = self._cache.get(key)
            if not isinstance(found, SeenObjects):
                raise_if_stopped(should_stop)
                found = self.perceiver.regions(turn.pixels, turn.size, [box], image.photograph)
                self._cache.put(key, found, found.nbytes)
            parts.append(found)
        return SeenObjects.joined(parts)

    def _referents(self, image: SeenImage, regions: SeenObjects, hearing: Hearing) -> Referents:
        objects = SeenObjects.joined([image.objects, regions])
        return Referents(objects, hearing.match(objects), image.size, len(image.tags))

    def _seen_keys(self, turn: ConverseTurn, image: SeenImage, hearing: Hearing) -> Keys:
        """Of the image. What matches which noun is of this conversation, and touches no key or value."""
        match = hearing.match(image.objects)
        slots = image_slots(image, match)
        key = b"keys" + turn.digest
        found = self._cache.get(key)
        if not isinstance(found, Keys):
            found = self._network.see(slots)
            self._cache.put(key, found, _bytes_of(found))
        return replace(found, match=slots.match * found.placed[..., None])


class _Reader:
    """Reads the conversation of one turn in parts that end where an answer begins."""

    def __init__(
        self,
        converser: EmbeddedConverser,
        turn: ConverseTurn,
        tokens: list[Token],
        hearing: Hearing,
        referents: Referents,
        seen: Keys,
    ) -> None:
        self._network, self._lexicon, self._cache = converser._network, converser._lexicon, converser._cache
        self._tokens, self._referents, self._seen, self._properties = tokens, referents, seen, converser.properties
        self._objects = seen.mask.shape[1] - 1
        self._nouns = hearing.rows(len(tokens), referents.objects.categories.shape[1])
        ids, boxes = [each.id for each in turn.conversation.regions], referents.objects.boxes[self._objects :]
        self._name = turn.digest + repr((ids, boxes.tolist())).encode()
        self._match_width = referents.match.shape[1]

    def prompt(self, should_stop: Callable[[], bool]) -> _Read:
        """All of the conversation read."""
        ends = [place + 1 for place, each in enumerate(self._tokens) if each.word == ASSISTANT and not each.noun]
        state = _Read(self._seen, torch.empty(0))
        start = 0
        for end in dict.fromkeys((*ends, len(self._tokens))):
            key = self._key(end)
            known = self._cache.get(key)
            if isinstance(known, _Read):
                state = replace(known, keys=self._matched(known.keys, end))
            else:
                raise_if_stopped(should_stop)
                state = self._read(state, start, end)
                self._cache.put(key, state, state.nbytes)
            start = end
        return state

    def begun(self, written: tuple[int, ...], should_stop: Callable[[], bool]) -> _Begun:
        """The answer so far: what was kept of the piece before, or read again."""
        known = self._cache.get(self._key_of_answer)
        if isinstance(known, _Begun) and known.written == written:
            return known
        state, sure = self.prompt(should_stop), list[float]()
        for token in written:
            raise_if_stopped(should_stop)
            sure.append(float(state.logits.log_softmax(-1)[token]))
            state = self.after(state, token)
        return _Begun(written, tuple(sure), state)

    def keep(self, begun: _Begun) -> None:
        """For the next piece, in the place of the one before."""
        self._cache.put(self._key_of_answer, begun, begun.read.nbytes)

    @property
    def _key_of_answer(self) -> bytes:
        return b"answer" + self._key(len(self._tokens))

    def after(self, state: _Read, token: int) -> _Read:
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

    def _read(self, state: _Read, start: int, end: int) -> _Read:
        part = self._tokens[start:end]
        places = [-1 if each.region < 0 else self._objects + each.region for each in part]
        return self._extended(state, part, places, (self._nouns[0][start:end], self._nouns[1][start:end]))

    def _extended(
        self,
        state: _Read,
        part: Sequence[Token],
        places: Sequence[int],
        nouns: tuple[Floats, Floats],
    ) -> _Read:
        tokens = self._referents.tokens(self._lexicon, part, places, nouns, self._properties)
        own = self._network.read(tokens, state.keys, self._seen.mask.shape[1])
        keys = state.keys.followed_by(own)
        length = keys.mask.shape[1]
        pointable, until = self._pointable(length), torch.tensor([[length]])
        logits = self._network.logits(own.hidden[:, -1:], keys, pointable, self._properties, until)[0, 0]
        logits[[*_NEVER]] = -torch.inf
        if self._plural(length) is None:
            logits[NOUNS] = -torch.inf
        return _Read(keys, logits)

    def _plural(self, length: int) -> int | None:
        """The place among the tokens, up to so many keys, of the last noun in the plural that the user said."""
        part = self._tokens[: length - self._objects - 1]
        return next((place for place in reversed(range(len(part))) if _is_asked_plural(part[place])), None)

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


def _is_asked_plural(token: Token) -> bool:
    return token.noun is not None and token.noun.plural and token.role == IN_USER


def _unsaid(logits: Tensor, written: Sequence[int], named: Sequence[int], words: int) -> Tensor:
    """The logits without objects that the answer has named already, for none is named twice, and without its last word,
    which nobody says twice in a row. Where an object is to be named, it is one of the others, if there is one.

    named: the tokens of all that is one of the named objects."""
    if not written:
        return logits
    found = logits.clone()
    found[[written[-1], *named]] = -torch.inf
    if int(logits.argmax()) >= words and bool((found[words:] > -1e3).any()):
        found[:words] = -torch.inf
    return found


def _with_regions_that_are_meant(turn: ConverseTurn) -> ConverseTurn:
    """Without regions that no text refers to: nothing is asked of them."""
    asked = turn.conversation
    texts = (*(each.content for each in asked.messages), *asked.answers)
    named = {name for text in texts for name in REGION.findall(text)}
    regions = tuple(each for each in asked.regions if each.id in named)
    return replace(turn, conversation=replace(asked, regions=regions))


def _bytes_of(keys: Keys) -> int:
    single = [getattr(keys, field.name) for field in fields(keys) if field.name not in ("keys", "values")]
    return sum(each.nbytes for each in (*single, *keys.keys, *keys.values))


def _none_of(objects: SeenObjects) -> SeenObjects:
    return SeenObjects(
        objects.boxes[:0], objects.objectness[:0], objects.features[:0], objects.categories[:0], objects.attributes[:0]
    )

"""The embedded converser: perceives an image once, reads a conversation about it, writes the answer token by token.

What is dear to compute again is kept in one bounded cache: what is seen of an image and of asked regions, and the
network's keys and values of the image, of a conversation up to each question and of an answer up to its latest piece.
A conversation is always read in the same parts, whether a part was kept or not, so that the cache changes no number.
One turn at a time: so nothing depends on the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from dynrefer.model.cache import ByteCache
from dynrefer.model.conversation import REGION
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import ConversationError, raise_if_stopped
from dynrefer.model.networks.converse.embedded.answering import Answering, chosen_reply, written_reply
from dynrefer.model.networks.converse.embedded.dialogue import Token, read_dialogue
from dynrefer.model.networks.converse.embedded.files import ConverserFiles
from dynrefer.model.networks.converse.embedded.inputs import Hearing, Referents, image_slots
from dynrefer.model.networks.converse.embedded.lexicon import CHOICE, END
from dynrefer.model.networks.converse.embedded.meant import meant_box
from dynrefer.model.networks.converse.embedded.preparation import EmbeddedConverserSpec
from dynrefer.model.networks.converse.embedded.reader import (
    BegunAnswer,
    ConversationReader,
    ReadSoFar,
    bytes_of,
    without_what_was_said,
)
from dynrefer.model.networks.converse.embedded.reading import Keys
from dynrefer.model.networks.converse.embedded.seen import SeenImage, SeenObjects

if TYPE_CHECKING:
    from dynrefer.model.evidence.word_placement import WordPlacement
    from dynrefer.model.networks.converse.embedded.perception import Perceiver

CACHE_BYTES = 1 << 26
MOST_TOKENS = 96  # of an answer
# Tokens of a conversation; of a longer one the oldest turns are not read. What pairs of them need takes memory by the
# square of it: 150 MB at this length.
MOST_READ = 512


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
        self.files, self._lexicon, self.calibration = files, files.lexicon, files.calibration
        self._placement, self._categories = placement, tuple(categories)
        self.properties = torch.from_numpy(files.lexicon.property_rows(files.network.config.attributes))
        self._cache: ByteCache[SeenImage | SeenObjects | Keys | ReadSoFar | BegunAnswer] = ByteCache(cache_bytes)

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
        reader = ConversationReader(self.files, self.properties, self._cache, turn, tokens, hearing, referents, before)
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
            token = int(
                without_what_was_said(state.logits, written, reader.same_objects(written), self._lexicon.size).argmax()
            )
            sure.append(float(state.logits.log_softmax(-1)[token]))
            if token == END or len(written) >= limit:
                ended = True
                break
            written.append(token)
            state = reader.after(state, token)
        if not ended:
            reader.keep(BegunAnswer(tuple(written), tuple(sure), state))
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
            found = self.files.network.see(slots)
            self._cache.put(key, found, bytes_of(found))
        return replace(found, match=slots.match * found.placed[..., None])


def _with_regions_that_are_meant(turn: ConverseTurn) -> ConverseTurn:
    """Without regions that no text refers to: nothing is asked of them."""
    asked = turn.conversation
    texts = (*(each.content for each in asked.messages), *asked.answers)
    named = {name for text in texts for name in REGION.findall(text)}
    regions = tuple(each for each in asked.regions if each.id in named)
    return replace(turn, conversation=replace(asked, regions=regions))


def _none_of(objects: SeenObjects) -> SeenObjects:
    return SeenObjects(
        objects.boxes[:0], objects.objectness[:0], objects.features[:0], objects.categories[:0], objects.attributes[:0]
    )

"""Tokens of an answer -> the reply: names of objects, boxes, probabilities.

An object's name is what perception says, or a narrower choice where the user has said a noun that fits it as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dynrefer.model.conversation import CANNOT_TELL, AnswerProbability, Finish, GroundedSpan, Reply
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.networks.converse.embedded.dialogue import WrittenName, write
from dynrefer.model.networks.converse.embedded.files import Calibration
from dynrefer.model.networks.converse.embedded.inputs import Hearing
from dynrefer.model.networks.converse.embedded.lexicon import NOUNS, Lexicon
from dynrefer.model.networks.converse.embedded.seen import SeenImage, SeenObjects

_SAID = 0.25  # probability that a noun which the user has said has ahead of others
_TAKEN = 0.05  # least probability with which an object is what the user calls it, if nothing else fits that better
_FITS = 0.3  # least probability with which a said noun is the name of a photographed object
_AGREES = 0.5  # from here on, or where nothing else is likelier, perception agrees with a name


@dataclass(frozen=True)
class Answering:
    """One answer while it is written. hearing: the conversation's nouns. categories: the describer's."""

    lexicon: Lexicon
    calibration: Calibration
    turn: ConverseTurn
    image: SeenImage
    regions: SeenObjects
    hearing: Hearing
    categories: Sequence[str]

    def referent(self, place: int) -> tuple[SeenObjects, int, str | None]:
        """What stands at a place among the network's keys: where it is seen, its row, and the region's id."""
        count = len(self.image.objects)
        if place < count:
            return self.image.objects, place, None
        row = place - count - 1  # the image itself is in between; regions are the first tokens
        return self.regions, row, self.turn.conversation.regions[row].id

    def name(self, place: int) -> tuple[str, float, bool]:
        """What the object is called, its probability, and whether perception agrees."""
        seen, row, _ = self.referent(place)
        if seen.identities and seen.identities[row].photograph:
            return self._photographed(place)
        scores = seen.categories[row].copy()
        for noun in self.hearing.nouns.values():
            if noun.asked and noun.meaning.sum() == 1.0:
                category = int(noun.meaning.argmax())
                taken = noun.definite and self._fits_best(seen, row, category)
                scores[category] += 1.0 if taken else _SAID
        best = int(scores.argmax())
        name, probability = self.categories[best], float(seen.categories[row, best])
        agrees = probability >= min(_AGREES, float(seen.categories[row].max()))
        return self.lexicon.spoken.get(name, name), probability, agrees

    def _fits_best(self, seen: SeenObjects, row: int, category: int) -> bool:
        """Whether nothing else is much likelier to be of this category: who says "the dog" means one that is
        there."""
        every = self.image.objects.categories[:, category]
        probability = float(seen.categories[row, category])
        return probability >= max(_TAKEN, 0.5 * float(every.max(initial=0.0)))

    def _photographed(self, place: int) -> tuple[str, float, bool]:
        seen, row, _ = self.referent(place)
        identity = seen.identities[row]
        fits = self.hearing.fits(identity)
        said = [(fit, noun.text) for fit, noun in fits if noun.asked and fit >= _FITS and noun.breadth <= 1.0]
        if said:
            fit, text = max(said)
            return text, fit, fit >= min(_AGREES, identity.probability)
        return identity.name, identity.probability, True


def written_reply(
    answering: Answering, written: tuple[int, ...], sure: Sequence[float], *, ended: bool, complete: bool
) -> Spoken:
    """sure: the logarithm of each token's probability. ended: nothing follows; complete: because nothing is missing."""
    words = answering.lexicon.size
    parts: list[str | WrittenName] = []
    named: list[tuple[int, float, bool]] = []
    for index, token in enumerate(written):
        if token < words:
            parts.append(answering.hearing.plural if token == NOUNS else answering.lexicon.text_of(token))
        else:
            name, _, agrees = answering.name(token - words)
            parts.append(WrittenName(token - words, name))
            named.append((token - words, math.exp(sure[index]), agrees))
    text = write(parts, done=ended)
    content, stable = text.text, text.stable
    if ended and not content:
        content, stable = CANNOT_TELL, len(CANNOT_TELL)
    grounding = []
    if answering.turn.conversation.ground:
        for (start, end), (place, probability, agrees) in zip(text.spans, named, strict=True):
            seen, row, region = answering.referent(place)
            x1, y1, x2, y2 = (round(float(value), 2) for value in seen.boxes[row])
            grounding.append(GroundedSpan((start, end), (x1, y1, x2, y2), round(probability, 4), agrees, region))
    mean = sum(sure) / max(len(sure), 1)
    calibration = answering.calibration
    likely = round(1 / (1 + math.exp(-calibration.slope * mean - calibration.offset)), 4)
    finish = Finish.STOP if complete or not ended else Finish.LENGTH
    reply = Reply(content, tuple(grounding), likely if ended else None, (), finish, len(written))
    return Spoken(reply, written, ended, stable)


def chosen_reply(answering: Answering, logits: Tensor) -> Spoken:
    """The best of the allowed answers. logits: (A,), of pointing at each."""
    probabilities = (logits / answering.calibration.temperature).softmax(-1).tolist()
    answers = answering.turn.conversation.answers
    ranked = sorted(zip(answers, probabilities, strict=True), key=lambda each: -each[1])
    found = tuple(AnswerProbability(answer, round(value, 6)) for answer, value in ranked)
    text = found[0].answer
    reply = Reply(text, (), found[0].probability, found, Finish.STOP, 1)
    return Spoken(reply, (), True, len(text))

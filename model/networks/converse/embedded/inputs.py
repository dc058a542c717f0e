"""What is seen, and the tokens of a conversation, as the network takes them: one conversation at a time.

Shapes: as in `network.py`, with B = 1; R = asked regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.word_placement import PlacedWord, WordPlacement
from dynrefer.model.geometry import ImageSize
from dynrefer.model.networks.converse.embedded.dialogue import IN_USER, Token, last_plural
from dynrefer.model.networks.converse.embedded.lexicon import GRAMS, NOUN, UNKNOWN, Lexicon
from dynrefer.model.networks.converse.embedded.reading import Slots, Tokens
from dynrefer.model.networks.converse.embedded.seen import Floats, SeenImage, SeenObjects
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors

_MOST_BROAD = 40.0  # categories below a word that is taken for a noun of the image's objects: "thing" is none
_KNOWN_BY = ("own", "synonym", "broader", "narrower")


@dataclass(frozen=True, slots=True)
class HeardNoun:
    """A noun of the conversation. meaning: (K,) of the categories. placed: where it stands among what is known of
    photographs; None where the lexicon is enough. asked: whether the user said it. definite: of one that is taken to be
    there ("the dog", "the red dog")."""

    text: str
    meaning: Floats
    placed: PlacedWord | None
    asked: bool
    definite: bool = False

    @property
    def breadth(self) -> float:
        """How many of the things that photographs are known to show it names: 1 is one class."""
        return 0.0 if self.placed is None else self.placed.breadth(photograph=True)


class Hearing:
    """The nouns of one conversation, and how well each fits what is seen. placement: None without evidence.

    photographed: whether anything that is seen was named as a photograph; then nouns are placed in its list too.
    """

    def __init__(
        self, lexicon: Lexicon, tokens: Sequence[Token], placement: WordPlacement | None, *, photographed: bool
    ) -> None:
        self._placement = placement
        self._photographed = photographed and placement is not None
        self.nouns: dict[int, HeardNoun] = {}  # by the token's place
        plural = last_plural(tokens)
        self.plural = "" if plural is None else tokens[plural].text
        for place, token in enumerate(tokens):
            if token.noun is not None:
                meaning = lexicon.meanings[token.noun.row]
                placed = placement.place([token.text])[0] if self._photographed and placement is not None else None
                definite = not token.noun.plural and "the" in _leading(lexicon, tokens, place)
                self.nouns[place] = HeardNoun(token.text, meaning, placed, token.role == IN_USER, definite)
            elif token.word == UNKNOWN and placement is not None and token.text.isalpha():
                heard = self._unlisted(token, placement, lexicon.meanings.shape[1])
                if heard is not None:
                    self.nouns[place] = heard

    def _unlisted(self, token: Token, placement: WordPlacement, categories: int) -> HeardNoun | None:
        """A noun that the lexicon does not have: of a drawing only a broader word, for all narrow ones are there."""
        (placed,) = placement.place([token.text])
        meaning = np.zeros(categories, np.float32)
        meaning[placed.drawn.places] = placed.drawn.values
        if placed.via not in (_KNOWN_BY if self._photographed else ("broader",)):
            return None
        if not self._photographed and not 0 < meaning.sum() <= _MOST_BROAD:
            return None
        return HeardNoun(token.text, meaning, placed, token.role == IN_USER)

    def match(self, objects: SeenObjects) -> Floats:
        """(N, M): that each object is what each noun names. In drawings the M are the categories themselves."""
        if not self._photographed or self._placement is None:
            return objects.categories
        placed = [each.placed for each in self.nouns.values() if each.placed is not None]
        if not placed:
            return np.zeros((len(objects), 1), np.float32)
        rows = [np.nan_to_num(self._placement.probabilities(placed, each)) for each in objects.identities]
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, len(placed)), np.float32)

    def fits(self, identity: Identity) -> list[tuple[float, HeardNoun]]:
        """How likely a photographed object is what each noun names."""
        nouns = [each for each in self.nouns.values() if each.placed is not None]
        if self._placement is None or not nouns:
            return []
        found = self._placement.probabilities([each.placed for each in nouns if each.placed is not None], identity)
        return [(float(fit), noun) for fit, noun in zip(np.nan_to_num(found), nouns, strict=True)]

    def rows(self, length: int, categories: int) -> tuple[Floats, Floats]:
        """Of `length` tokens the meanings (length, K), and which of the M nouns each is (length, M)."""
        meanings = np.zeros((length, categories), np.float32)
        for place, noun in self.nouns.items():
            meanings[place] = noun.meaning
        if not self._photographed:
            return meanings, meanings
        matched = np.zeros((length, max(1, len(self.nouns))), np.float32)
        for column, place in enumerate(self.nouns):
            matched[place, column] = 1.0
        return meanings, matched


def _leading(lexicon: Lexicon, tokens: Sequence[Token], place: int) -> list[str]:
    """The words before a noun: its properties, and the one before these."""
    found = []
    for token in reversed(tokens[:place]):
        found.append(token.text)
        if token.text not in lexicon.properties:
            break
    return found


def image_slots(seen: SeenImage, match: Floats) -> Slots:
    """The objects of an image, with the image itself behind them. match: (N, M)."""
    longest = max(seen.size)
    frame = np.array(seen.size, np.float32) / longest
    objects = seen.objects
    drawn = _drawn(objects)[:, None]
    nothing = np.zeros((1, objects.categories.shape[1]), np.float32)
    count = len(objects)
    return Slots(
        _rows(objects.features * drawn, seen.features[None] * float(seen.photograph < 0.5)),
        _rows(objects.categories, nothing),
        _rows(objects.attributes, np.zeros((1, objects.attributes.shape[1]), np.float32)),
        _rows((objects.boxes / longest).astype(np.float32), np.array([[0, 0, *frame]], np.float32)),
        torch.from_numpy(frame[None]),
        _rows(objects.objectness, np.ones(1, np.float32)),
        torch.ones(1, count + 1, dtype=torch.bool),
        torch.tensor([[False] * count + [True]]),
        torch.from_numpy(seen.tags[None].astype(np.float32)),
        _rows(match, np.zeros((1, match.shape[1]), np.float32)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Referents:
    """All that tokens can be, refer to or name: the image's objects, then the asked regions, `(S - 1 + R)` rows."""

    objects: SeenObjects
    match: Floats
    size: ImageSize
    tags: int

    def tokens(
        self,
        lexicon: Lexicon,
        vectors: WordVectors,
        tokens: Sequence[Token],
        places: Sequence[int],
        nouns: tuple[Floats, Floats],
        properties: Tensor,
    ) -> Tokens:
        """places: for each token the row of what it is, refers to or names; -1: nothing. nouns: rows of these tokens.

        properties: (words, A), of every word.
        """
        meanings, matched = nouns
        length, longest = len(tokens), max(self.size)
        row = np.array([max(place, 0) for place in places], np.int64)
        referred = np.array([place >= 0 for place in places])
        shown = referred.astype(np.float32)[:, None]

        def own(values: Floats) -> Tensor:
            if not len(values):
                return torch.zeros(1, length, *values.shape[1:])
            chosen = values[row] * (shown if values.ndim > 1 else shown[:, 0])
            return torch.from_numpy(chosen.astype(np.float32))[None]

        objects = self.objects
        regions = Slots(
            own(objects.features * _drawn(objects)[:, None]),
            own(objects.categories),
            own(objects.attributes),
            own((objects.boxes / longest).astype(np.float32)),
            torch.tensor([[self.size[0] / longest, self.size[1] / longest]]),
            own(objects.objectness),
            torch.from_numpy(referred)[None],
            torch.zeros(1, length, dtype=torch.bool),
            torch.zeros(1, self.tags),
            own(self.match),
        )
        words = [NOUN if matched[i].any() and each.word == UNKNOWN else each.word for i, each in enumerate(tokens)]
        spelt = [spelt_as(lexicon, each, word) for each, word in zip(tokens, words, strict=True)]
        grams = [lexicon.grams(text) if text else [0] * GRAMS for text in spelt]
        return Tokens(
            torch.tensor([words]),
            torch.tensor([grams]),
            torch.from_numpy(vectors.of(spelt))[None],
            torch.from_numpy(meanings)[None],
            torch.from_numpy(matched)[None],
            properties[words][None],
            torch.tensor([[each.role for each in tokens]]),
            regions,
            torch.tensor([[each.slot for each in tokens]]),
            torch.ones(1, length, dtype=torch.bool),
        )


def spelt_as(lexicon: Lexicon, token: Token, word: int) -> str:
    """What is read by its letters, and as what it is used like: a word, and no noun or mark; else empty."""
    return token.text if word == UNKNOWN or word >= lexicon.size - len(lexicon.words) else ""


def _drawn(objects: SeenObjects) -> Floats:
    """(N,) 1 for what was named by the describer's network, 0 for photographs, of whose looks it knows nothing."""
    if not objects.identities:
        return np.ones(len(objects), np.float32)
    return np.array([0.0 if each.photograph else 1.0 for each in objects.identities], np.float32)


def _rows(values: Floats, last: Floats) -> Tensor:
    return torch.from_numpy(np.concatenate([values, last]).astype(np.float32))[None]

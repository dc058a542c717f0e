"""Batches of questions with their answers, as arrays: several questions about each of a few scenes.

A batch is a function of (stage, step, seed), so that a run that was stopped goes on with the batches of one that was
not. Objects of a scene come in random order; boxes and representations are disturbed a little, and sometimes a scene
has no representations at all, so that names, properties and boxes must do (as they do in photographs).

Shapes: G = scenes of a batch, B = questions, S = objects of a scene with the image itself, T = tokens, N = S + T.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.networks.converse.embedded.dialogue import Token, named, read_dialogue
from dynrefer.model.networks.converse.embedded.lexicon import CHOICE, END, GRAMS, PAD, SPECIAL, UNKNOWN, Lexicon
from dynrefer.model.networks.converse.embedded.reading import Slots, Tokens
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.training.converse.asked import AskedQuestion
from dynrefer.workbench.training.converse.perceived import PerceivedScene
from dynrefer.workbench.training.converse.scene_arrays import (
    Disturbance,
    nearest_objects,
    object_order,
    referents,
    seen_objects,
    stacked,
)
from dynrefer.workbench.training.converse.words_alike import WordsAlike

NO_TARGET = -1  # of a token that is not to be written
_STRANGE = 0.03  # how often in its place stands any other English word at all, so that what is not known is not minded
_LIKE = 0.15  # how often in its place stands a word that is used like it
_LISTS = (Kind.LISTING, Kind.LISTING_SOME)
_UNHEARD = (
    0.12  # how often a word of a question is read as if the lexicon had it not, a third of them by nothing at all
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A question as arrays of T tokens. words, nouns (row of meanings, -1 none), roles, objects (the object of the
    scene that a token is, refers to or names; -1 none), asked: whether it is the region.

    spelt: the texts of words that the lexicon has not, by their places. targets: what is to be written behind each
    token: a word; -2 - i, the name of object i; else `NO_TARGET`. choice: place of the mark of the right one of allowed
    answers, which is to be pointed at behind the last token; -1 none.
    """

    kind: str
    scene: int
    words: NDArray[np.int16]
    nouns: NDArray[np.int16]
    roles: NDArray[np.int8]
    objects: NDArray[np.int8]
    asked: NDArray[np.bool_]
    targets: NDArray[np.int16]
    choice: int
    spelt: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.words)


def make_sample(question: AskedQuestion, scene: int, lexicon: Lexicon, seen: Collection[int]) -> Sample | None:
    """None for a question whose right answer is not among the allowed ones, or lists nothing that is seen.

    scene: its place among the scenes. seen: the objects that perception found. An answer that lists objects lists these
    alone: to name another one, there would be nothing to point at.
    """
    if question.kind in _LISTS:
        if not any(index in seen for _, _, index in question.spans):
            return None
        question = _listing(question, seen)
    ids = [name for name, _ in question.regions]
    tokens = read_dialogue(lexicon, question.messages, ids, question.answers)
    objects = [question.regions[each.region][1] if each.region >= 0 else -1 for each in tokens]
    choice, targets = -1, [NO_TARGET] * len(tokens)
    if question.answers:
        lowered = [each.strip().lower() for each in question.answers]
        marks = [place for place, each in enumerate(tokens) if each.word == CHOICE]
        answer = question.answer.strip().lower().rstrip(".")
        if answer not in lowered:
            return None
        choice = marks[lowered.index(answer)]
    else:
        written = _written(question, lexicon)
        for token, index in written:
            targets[-1] = token.word if index < 0 else -2 - index
            tokens.append(token)
            objects.append(index)
            targets.append(NO_TARGET)
        targets[-1] = END
    return Sample(
        question.kind,
        scene,
        np.array([each.word for each in tokens], np.int16),
        np.array([-1 if each.noun is None else each.noun.row for each in tokens], np.int16),
        np.array([each.role for each in tokens], np.int8),
        np.array(objects, np.int8),
        np.array([each.slot for each in tokens], bool),
        np.array(targets, np.int16),
        choice,
        {place: each.text for place, each in enumerate(tokens) if each.word == UNKNOWN and each.text},
    )


def _listing(question: AskedQuestion, seen: Collection[int]) -> AskedQuestion:
    """The question with its answer again, of the objects that are seen."""
    answer, spans = "", []
    left = [(start, stop, index) for start, stop, index in question.spans if index in seen]
    for place, (start, stop, index) in enumerate(left):
        article = question.answer[:start].split()[-1].lower()
        answer += "" if not place else " and " if place == len(left) - 1 else ", "
        answer += f"{article} "
        spans.append((len(answer), len(answer) + stop - start, index))
        answer += question.answer[start:stop]
    return replace(question, answer=f"{answer[:1].upper()}{answer[1:]}.", spans=tuple(spans))


def _written(question: AskedQuestion, lexicon: Lexicon) -> list[tuple[Token, int]]:
    """The tokens of the answer, each with the object that it names, or -1."""
    found: list[tuple[Token, int]] = []
    end = 0
    for start, stop, index in (*question.spans, (len(question.answer), 0, -1)):
        for piece in lexicon.read(question.answer[end:start]):
            word = lexicon.tokens["a"] if piece.word == lexicon.tokens.get("an") else piece.word
            found.append((Token(word, 2, piece.text, piece.noun), -1))
        if index >= 0:
            found.append((named(), index))
        end = stop
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """slots: of G scenes. rows: (B,) the scene of each question. tokens: (B, T). pointable: (B, N) bool.

    targets: (B, T) the words or, from the number of words on, places among the N; `NO_TARGET` where nothing is to be
    written. properties: (words, A). kinds: of the questions.
    """

    slots: Slots
    rows: Tensor
    tokens: Tokens
    pointable: Tensor
    targets: Tensor
    properties: Tensor
    kinds: tuple[str, ...]


class Samples:
    """Samples with their scenes."""

    def __init__(
        self,
        scenes: Sequence[PerceivedScene],
        questions: Sequence[AskedQuestion],
        lexicon: Lexicon,
        vectors: WordVectors,
    ) -> None:
        place_of = {scene.seed: place for place, scene in enumerate(scenes)}
        seen = [frozenset(np.flatnonzero(nearest_objects(each) >= 0).tolist()) for each in scenes]
        known = [(each, place_of[each.seed]) for each in questions if each.seed in place_of]
        made = [make_sample(each, place, lexicon, seen[place]) for each, place in known]
        self.scenes, self.lexicon, self.vectors = scenes, lexicon, vectors
        self.samples = [each for each in made if each is not None]
        self._tags = len(scenes[0].image.tags)
        self._tables: dict[int, dict[str, NDArray[np.float32]]] = {}
        attributes = scenes[0].image.objects.attributes.shape[1]
        self._properties = torch.from_numpy(lexicon.property_rows(attributes))
        self._is_property = self._properties.any(1).numpy()  # of which a word cannot be told by what is around it
        self._like = WordsAlike(lexicon, vectors)
        unlisted = list(dict.fromkeys(text for each in self.samples for text in each.spelt.values()))
        spelt = [*lexicon.words, *self._like.words, *unlisted]
        self._spelt = {text: lexicon.size + len(self._like.words) + place for place, text in enumerate(unlisted)}
        strange = np.array([lexicon.grams(word) for word in spelt[len(lexicon.words) :]], np.int64).reshape(-1, GRAMS)
        self._grams = torch.from_numpy(np.concatenate([lexicon.gram_rows(), strange]))
        self._vectors = torch.from_numpy(vectors.of(["" for _ in SPECIAL] + spelt))
        self._meanings = torch.from_numpy(np.concatenate([np.zeros_like(lexicon.meanings[:1]), lexicon.meanings]))
        self._by_scene: dict[tuple[int, bool], list[int]] = {}

    def groups(self, kinds: frozenset[str] | None, most: int) -> dict[int, list[int]]:
        """Scene -> its samples of these kinds of at most so many tokens."""
        found: dict[int, list[int]] = {}
        for place, each in enumerate(self.samples):
            if (kinds is None or each.kind in kinds) and len(each) <= most:
                found.setdefault(each.scene, []).append(place)
        return found

    def batch(self, places: Sequence[int], rng: np.random.Generator | None) -> Batch:
        """Of these samples, grouped by scene. rng: of what is disturbed; None: nothing is."""
        samples = [self.samples[place] for place in places]
        scenes = list(dict.fromkeys(each.scene for each in samples))
        orders = [object_order(self.scenes[each], rng) for each in scenes]
        row_of = {scene: row for row, scene in enumerate(scenes)}
        rows = torch.tensor([row_of[each.scene] for each in samples])
        length = max(map(len, samples))
        size = 1 + max(len(order) for order in orders)
        disturbed = [Disturbance.drawn(self.scenes[scene], rng) for scene in scenes]
        seen = [
            seen_objects(self.scenes[scene], order, size, disturbance, rng)
            for scene, order, disturbance in zip(scenes, orders, disturbed, strict=True)
        ]
        slots = stacked(seen)
        tokens, pointable, targets = [], [], []
        for sample in samples:
            row = row_of[sample.scene]
            scene = self.scenes[sample.scene]
            found, own = orders[row], seen[row]
            token, points, target = self._tokens(sample, scene, found, own, length, size, disturbed[row], rng)
            tokens.append(token)
            pointable.append(points)
            targets.append(target)
        kinds = tuple(each.kind for each in samples)
        return Batch(
            slots, rows, self._joined(tokens), torch.stack(pointable), torch.stack(targets), self._properties, kinds
        )

    def _tokens(
        self,
        sample: Sample,
        scene: PerceivedScene,
        order: NDArray[np.int64],
        own: Slots,
        length: int,
        size: int,
        disturbance: Disturbance,
        rng: np.random.Generator | None,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        count, words = len(sample), self.lexicon.size
        objects = scene.image.objects
        nearest = nearest_objects(scene)
        asked = {int(index): place for place, index in enumerate(sample.objects) if sample.asked[place]}
        inverse = {int(place): slot for slot, place in enumerate(order)}
        # What each token is, refers to or names: row 0 is nothing, then the image's objects, then the true ones.
        source = np.zeros(length, np.int64)
        targets = np.full(length, NO_TARGET, np.int64)
        known = {}
        for index in {int(each) for each in sample.objects if each >= 0} | {
            -2 - int(t) for t in sample.targets if t < -1
        }:
            if index in asked:
                known[index] = (size + asked[index], 1 + len(objects) + index)
            elif nearest[index] >= 0 and int(nearest[index]) in inverse:
                known[index] = (inverse[int(nearest[index])], 1 + int(nearest[index]))
        for place in range(count):
            index, target = int(sample.objects[place]), int(sample.targets[place])
            if index in known:
                source[place] = 1 + len(objects) + index if sample.asked[place] else known[index][1]
            if target >= 0:
                targets[place] = target
            elif target < -1 and -2 - target in known:
                targets[place] = words + known[-2 - target][0]
        if sample.choice >= 0:
            targets[count - 1] = words + size + sample.choice
        pointable = np.zeros(size + length, bool)
        pointable[:size] = (own.mask & ~own.whole)[0].numpy()
        marks = sample.words == CHOICE
        pointable[size : size + count] = marks if sample.choice >= 0 else sample.asked
        if sample.choice >= 0:
            pointable[:size] = False
        given = np.full(length, PAD, np.int64)
        given[:count] = sample.words
        read = given.copy()
        letters = given.copy()
        for place, text in sample.spelt.items():
            letters[place] = self._spelt[text]
        if rng is not None:
            heard, other = rng.random(length), rng.random(length)
            ordinary = (given >= len(SPECIAL)) & (np.append(sample.roles, np.zeros(length - count)) == 1)
            ordinary &= ~self._is_property[given]
            read[ordinary & (heard < _UNHEARD)] = UNKNOWN
            letters[ordinary & (heard < _UNHEARD / 3)] = PAD
            strange = ordinary & (other < _STRANGE)
            read[strange] = UNKNOWN
            letters[strange] = words + rng.integers(len(self._like.words), size=int(strange.sum()))
            for place in np.flatnonzero(ordinary & (other > 1 - _LIKE)).tolist():
                alike = self._like.rows[given[place] - len(SPECIAL)]
                if len(alike):
                    read[place], letters[place] = UNKNOWN, words + int(rng.choice(alike))
        nouns = np.zeros(length, np.int64)
        nouns[:count] = 1 + sample.nouns
        roles = np.zeros(length, np.int64)
        roles[:count] = sample.roles
        slot = np.zeros(length, bool)
        slot[:count] = sample.asked
        mask = np.zeros(length, bool)
        mask[:count] = True
        found = {
            "words": read,
            "letters": letters,
            "properties": given,
            "nouns": nouns,
            "roles": roles,
            "slot": slot,
            "mask": mask,
        }
        arrays = {name: torch.from_numpy(value) for name, value in found.items()}
        table = self._tables.setdefault(scene.seed, {}) or referents(scene)
        self._tables[scene.seed] = table
        features = table["features"][source] * (0.0 if disturbance.blind else 1.0)
        matched = table["categories"][source]
        named = ~np.append(False, disturbance.nameless)[source, None]
        sure = (source > 0).astype(np.float32)
        arrays |= {
            "features": torch.from_numpy(features.astype(np.float32)),
            "categories": torch.from_numpy(matched * named),
            "match": torch.from_numpy(matched),
            "attributes": torch.from_numpy(table["attributes"][source]),
            "boxes": torch.from_numpy(table["boxes"][source]),
            "objectness": torch.from_numpy(table["objectness"][source]),
            "frame": own.frames[0],
            "referred": torch.from_numpy(sure > 0),
        }
        return arrays, torch.from_numpy(pointable), torch.from_numpy(targets)

    def _joined(self, parts: Sequence[dict[str, Tensor]]) -> Tokens:
        all_of = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        meanings = self._meanings[all_of["nouns"]]
        batch, length = all_of["words"].shape
        regions = Slots(
            all_of["features"],
            all_of["categories"],
            all_of["attributes"],
            all_of["boxes"],
            all_of["frame"],
            all_of["objectness"],
            all_of["referred"],
            torch.zeros(batch, length, dtype=torch.bool),
            torch.zeros(batch, self._tags),
            all_of["match"],
        )
        return Tokens(
            all_of["words"],
            self._grams[all_of["letters"]],
            self._vectors[all_of["letters"]],
            meanings,
            meanings,
            self._properties[all_of["properties"]],
            all_of["roles"],
            regions,
            all_of["slot"],
            all_of["mask"],
        )

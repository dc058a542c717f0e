"""What every kind of question is made with: words and regions for the objects of one scene, and answers with spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dynrefer.model.asking import Pointing, asked_conversation
from dynrefer.model.conversation import GroundedSpan, Message, Role
from dynrefer.workbench.scenes.questions.facts import SceneFacts
from dynrefer.workbench.scenes.questions.forms import form
from dynrefer.workbench.scenes.questions.names import GROUPS, alike, indefinite, spoken_name, spoken_synonyms
from dynrefer.workbench.scenes.questions.pointing import pointed_at
from dynrefer.workbench.scenes.questions.records import Forms, HeldOut, Kind, Question, Says
from dynrefer.workbench.scenes.questions.wordings import skeletons

MOST_TOKENS = 96  # of an answer: a list of eight objects has about forty words
_REGION_PHRASES = ("<region:{id}>", "the object in <region:{id}>", "the object at <region:{id}>", "<region:{id}>")
_CASUAL = 0.12  # how often somebody writes without capitals and final marks


@dataclass(frozen=True)
class Mention:
    """A place of an answer where an object is named. lead: the words before the name: "a red ", "the "."""

    index: int
    lead: str


Part = str | Mention
T = TypeVar("T")


class Asker:
    """Makes the questions of one kind about one scene. It remembers the regions that a question refers to."""

    def __init__(self, facts: SceneFacts, random: np.random.Generator, forms: Forms, kind: Kind) -> None:
        self.facts = facts
        self.random = random
        self.forms = forms
        self.kind = kind
        self.pointed: dict[str, Pointing] = {}
        self.region_objects: list[int] = []
        self.turns: list[Message] = []

    def again(self) -> Asker:
        """A fresh one for another question of the same kind."""
        return Asker(self.facts, self.random, self.forms, self.kind)

    def shuffled(self, indices: Sequence[int] | None = None) -> list[int]:
        """Objects in random order."""
        given = range(len(self.facts)) if indices is None else indices
        return [int(each) for each in self.random.permutation(list(given))]

    def one_of(self, choices: Sequence[T]) -> T:
        """A random one."""
        return choices[int(self.random.integers(len(choices)))]

    def refer(self, index: int, *, secret: str = "") -> str:
        """Words that mean this object and no other, or a region with it. secret: what the words must not say: "colour",
        or "name", which only a region keeps."""
        words = [] if secret == "name" else self.words(index, secret)
        if words and self.random.random() < 0.55:
            return self.one_of(words)
        return self.region_words(index)

    def region_words(self, index: int) -> str:
        """Words with a new region that shows the object."""
        return self.one_of(_REGION_PHRASES).format(id=self.region(index))

    def region(self, index: int) -> str:
        """A new region that shows the object; its id."""
        taken = len(self.pointed)
        name = "abcdefgh"[taken] if self.random.random() < 0.7 else f"r{taken + 1}"
        self.pointed[name] = pointed_at(self.facts.scene, index, self.random)
        self.region_objects.append(index)
        return name

    def a(self, index: int, adjective: str | None = None) -> Mention:
        """ "a dog", "an orange car": a mention."""
        name = spoken_name(self.facts.categories[index])
        whole = indefinite(f"{adjective} {name}" if adjective else name)
        return Mention(index, whole.removesuffix(name))

    def the(self, index: int) -> Mention:
        """ "the dog": a mention."""
        return Mention(index, "the ")

    def listed(self, indices: Sequence[int]) -> list[Part]:
        """ "a dog, a car and a house"."""
        parts: list[Part] = []
        for place, index in enumerate(indices):
            parts += [] if not place else [" and "] if place == len(indices) - 1 else [", "]
            parts.append(self.a(index))
        return parts

    def form(self, lines: tuple[str, ...] | None = None) -> str | None:
        """A form of the kind, or of these skeletons."""
        return form(skeletons()[self.kind] if lines is None else lines, self.forms, self.random)

    def said(self, question: str, parts: Sequence[Part]) -> None:
        """A turn before the question: what was asked, and the answer to it."""
        answer, _, _ = self.written(parts)
        self.turns += [Message(Role.USER, _sentence(question)), Message(Role.ASSISTANT, answer)]

    def written(self, parts: Sequence[Part]) -> tuple[str, tuple[GroundedSpan, ...], tuple[int, ...]]:
        """The answer, the spans of its mentions, and the objects of these."""
        text, spans, objects = "", [], []
        for part in parts:
            if isinstance(part, str):
                text += part
                continue
            name = spoken_name(self.facts.categories[part.index])
            text += part.lead
            spans.append(GroundedSpan((len(text), len(text) + len(name)), self.facts.scene.objects[part.index].box))
            objects.append(part.index)
            text += name
        return text[:1].upper() + text[1:], tuple(spans), tuple(objects)

    def ask(
        self,
        form: str,
        slots: dict[str, str],
        parts: Sequence[Part],
        says: Says,
        truth: Sequence[str],
        *,
        subject: int | None = None,
        same: Sequence[str] = (),
        answers: Sequence[str] = (),
    ) -> Question:
        """The question of this form; parts: of its answer."""
        text = _sentence(form.format(**slots))
        if self.random.random() < _CASUAL:
            text = (text[:1].lower() + text[1:]).rstrip("?.")
        answer, spans, objects = self.written(parts)
        asked = asked_conversation(
            [*self.turns, Message(Role.USER, text)],
            self.pointed,
            (self.facts.width, self.facts.height),
            ground=True,
            answers=tuple(answers),
            max_tokens=MOST_TOKENS,
        )
        return Question(
            self.kind,
            form,
            self._held_out(),
            asked,
            self.pointed,
            answer,
            spans,
            objects,
            tuple(self.region_objects),
            subject,
            says,
            tuple(truth),
            tuple(same),
        )

    def _held_out(self) -> HeldOut | None:
        if self.forms is not Forms.TRAINING:
            return "wordings" if self.forms is Forms.WORDINGS else "skeletons"
        return "pairs" if any(each.heldout_pair for each in self.facts.scene.objects) else None

    def words(self, index: int, secret: str = "") -> list[str]:
        """Words that mean this object and no other; empty where there are none."""
        facts = self.facts
        others = [other for other in range(len(facts)) if other != index]
        found = []
        name, colour = facts.categories[index], facts.colour(index)
        if not any(alike(facts.names[index], facts.names[other]) for other in others):
            found += [f"the {spoken_name(name)}"] * 3
            found += [f"the {word}" for word in spoken_synonyms(name)]
            if colour is not None and secret != "colour":
                found.append(f"the {colour} {spoken_name(name)}")
        for group in GROUPS:
            if facts.belongs(index, group) and all(facts.belongs(other, group) is False for other in others):
                found.append(f"the {group.word}")
        if colour is not None and secret != "colour" and facts.all_coloured(colour) == (index,):
            found.append(f"the {colour} object")
        return found


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""Whether an answer about a drawn scene is right: a slow and careful reader that knows what must be said.

It takes synonyms, articles and whole sentences. It refuses an answer that says something else too, such as two colours,
a second number, or an object that neither the question nor the right answer names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dynrefer.model.conversation import Reply
from dynrefer.model.types import Corners
from dynrefer.workbench.evaluation.conversing import answer_words as said
from dynrefer.workbench.evaluation.conversing.answer_words import AnswerWords
from dynrefer.workbench.scenes.questions.facts import OPPOSITE
from dynrefer.workbench.scenes.questions.records import Kind, Question, Says
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World

LEAST_OVERLAP = 0.5
_CLAIMS_OF_OTHERS = (
    " than ",
    " left of ",
    " right of ",
    " above ",
    " below ",
    " behind ",
    " in front of ",
    " next to ",
)
_DENIALS = {"not", "no", "neither", "without"}


@dataclass(frozen=True)
class Boxes:
    """right: objects of the right answer whose box is in the reply, among `wanted`. given: boxes of the reply, of which
    `fitting` meet one of these objects."""

    right: int
    wanted: int
    fitting: int
    given: int


class Judge:
    """Judges answers about scenes of a world."""

    def __init__(self, world: World) -> None:
        self._words = AnswerWords(world)
        self._rules: dict[Says, Callable[[Question, str], bool]] = {
            Says.NAME: self._name,
            Says.NAMES: lambda question, text: self._words.names(text) == list(question.truth),
            Says.NAME_SET: self._name_set,
            Says.COLOUR: lambda question, text: set(self._words.colours(text)) == set(question.truth),
            Says.COUNT: lambda question, text: said.numbers(text) == {int(question.truth[0])},
            Says.SIZE: lambda question, text: said.sizes(text) == set(question.truth),
            Says.POSITION: self._position,
            Says.RELATION: self._relation,
            Says.YES_NO: lambda question, text: said.yes_or_no(text) == question.truth[0],
            Says.DESCRIPTION: self._description,
            Says.SETTING: lambda question, text: said.settings(self._words.without_names(text)) == set(question.truth),
            Says.CHOICE: lambda question, text: said.plain(text) == said.plain(question.truth[0]),
            Says.ABSENCE: lambda question, text: (
                said.says_absent(text) and set(self._words.names(text)) <= {*question.truth}
            ),
            Says.CANNOT_TELL: lambda question, text: said.does_not_know(text),
        }

    def right(self, question: Question, text: str, scene: Scene) -> bool:
        """Whether the text answers the question about the scene rightly."""
        if question.says is not Says.CANNOT_TELL and said.does_not_know(text):
            return False
        affirms = question.says not in (Says.YES_NO, Says.ABSENCE, Says.CANNOT_TELL, Says.CHOICE, Says.COUNT)
        if affirms and _DENIALS & set(said.plain(text).split()):
            return False
        if question.says is Says.YES_NO and not self._claims_are_known(question, text, scene):
            return False
        return self._rules[question.says](question, text)

    def named(self, text: str) -> list[str]:
        """The categories that an answer names."""
        return self._words.names(text)

    def boxes(self, question: Question, reply: Reply) -> Boxes:
        """How the reply's boxes fit the objects that the right answer names. The words of a span must name the object,
        and each box counts for one object."""
        left = [(span.box, set(self.named(question.answer[slice(*span.span)]))) for span in question.spans]
        wanted, right = len(left), 0
        given = [(each.box, set(self.named(reply.content[slice(*each.span)]))) for each in reply.grounding]
        for box, names in given:
            fits = next((each for each in left if overlap(box, each[0]) >= LEAST_OVERLAP and names == each[1]), None)
            if fits is not None:
                left.remove(fits)
                right += 1
        every = [span.box for span in question.spans]
        fitting = sum(any(overlap(box, each) >= LEAST_OVERLAP for each in every) for box, _ in given)
        return Boxes(right, wanted, fitting, len(given))

    def _name(self, question: Question, text: str) -> bool:
        """One object. What it is compared with, or lies beside, may follow."""
        first = f" {said.plain(text)} "
        cut = min((place for place in map(first.find, _CLAIMS_OF_OTHERS) if place >= 0), default=len(first))
        words = said.plain(text).split()
        if question.kind is Kind.LARGER and {"smaller", "larger", "bigger"} & set(words):
            smaller = "smaller" in said.plain(question.answer).split()
            if ("smaller" in words) != smaller:
                return False
        return set(self._words.names(first[:cut])) == set(question.truth)

    def _name_set(self, question: Question, text: str) -> bool:
        return sorted(self._words.names(text)) == sorted(question.truth)

    def _position(self, question: Question, text: str) -> bool:
        truth, found = set(question.truth[0].split()), said.places(self._words.without_names(text))
        return found == truth or (len(truth) == 1 and found == truth | {"middle"})

    def _relation(self, question: Question, text: str) -> bool:
        """The right word; the opposite one where the two objects are named the other way round."""
        (true,) = question.truth
        one, other = (self.named(question.answer[slice(*span.span)])[0] for span in question.spans)
        names = self._words.names(text)
        if set(names) - {one, other} or len(names) > 2:
            return False
        turned = bool(names) and names[0] == other
        return said.relations(self._words.without_names(text)) == {OPPOSITE[true] if turned else true}

    def _claims_are_known(self, question: Question, text: str, scene: Scene) -> bool:
        """Whether it names no object and no colour but those of the question, its regions and the right answer."""
        known = " ".join((*(message.content for message in question.conversation.messages), question.answer))
        pointed = {scene.objects[index].category for index in question.region_objects}
        names, colours = set(self._words.names(text)), set(self._words.colours(text))
        return names <= pointed | set(self._words.names(known)) and colours <= set(self._words.colours(known))

    def _absence(self, question: Question, text: str) -> bool:
        return said.says_absent(text) and set(self._words.names(text)) <= set(question.truth)

    def _description(self, question: Question, text: str) -> bool:
        """The name and the colour; a size only if it is the right one."""
        category, colour, size = question.truth
        sizes = said.sizes(text)
        return (
            set(self._words.names(text)) == {category}
            and (not colour or set(self._words.colours(text)) == {colour})
            and (not sizes or not size or sizes == {size})
        )


def overlap(one: Corners, other: Corners) -> float:
    """Intersection over union of two boxes, xyxy."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (one, other))
    return shared / (areas - shared) if shared else 0.0

"""Questions about drawn scenes of unseen seeds put to a model, through `DynRefer.ask` as users put theirs.

Four conditions: forms that training knows, held-out wordings, held-out skeletons, and known forms about scenes whose
objects are all of held-out colour x category pairs. The first is also asked of a blank image.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynrefer.model.conversation import Reply
from dynrefer.workbench.evaluation.conversing.baselines import Captions, QuestionOnly
from dynrefer.workbench.evaluation.conversing.judge import Boxes, Judge
from dynrefer.workbench.evaluation.conversing.spreading import KINDS, spread
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.pointing import pointing_form
from dynrefer.workbench.scenes.questions.records import Forms, Kind, Question, Says
from dynrefer.workbench.scenes.scene import Scene, Split, draw_scene
from dynrefer.workbench.scenes.world import World

if TYPE_CHECKING:
    from dynrefer.model import DynRefer

FIRST_SEED = 6_000_000_000  # no training or calibration draws scenes of such seeds
SEEDS = 1_000_000  # apart from one seed of an evaluation to the next
CONDITIONS: dict[str, tuple[Forms, Split]] = {
    "training forms": (Forms.TRAINING, "test"),
    "held-out wordings": (Forms.WORDINGS, "test"),
    "held-out skeletons": (Forms.SKELETONS, "test"),
    "held-out pairs": (Forms.TRAINING, "heldout_pairs"),
}
BLANK = 128  # the gray of a blank image
_LISTS = (Says.NAME_SET, Says.NAMES)


@dataclass(frozen=True)
class Row:
    """One answer. scene: the number of its scene. pointed: how the question points at its first region, "words" where
    it has none. side: of the object in question, pixels of the longer side of its box; None: not about one.
    right: by condition's model; question_only, caption, blank: whether these baselines are right, None if not asked.
    named, invented: in an answer that lists objects, how many it names, and how many of these the scene has not.
    in_order: whether a right list of all objects is in raster order.
    """

    condition: str
    scene: int
    kind: Kind
    pointed: str
    side: float | None
    question: str
    expected: str
    answer: str
    right: bool
    probability: float | None
    boxes: Boxes
    named: int = 0
    invented: int = 0
    in_order: bool | None = None
    question_only: bool | None = None
    caption: bool | None = None
    blank: bool | None = None


@dataclass(frozen=True)
class Measured:
    """What is needed to ask and to judge."""

    model: DynRefer
    world: World
    sprites: SpritePack
    judge: Judge
    question_only: QuestionOnly
    seed: int = 1
    kinds: Collection[Kind] | None = None

    def rows(self, scenes: int, progress: Callable[[str], None] = lambda line: None) -> Iterator[Row]:
        """The answers of every condition about so many scenes."""
        for number in range(scenes):
            for condition, (forms, split) in CONDITIONS.items():
                scene = draw_scene(self.world, self.sprites, self._seed(number), split)
                random = np.random.default_rng((self._seed(number), list(CONDITIONS).index(condition)))
                questions = questions_about(scene, self.world, random, forms, kinds=self.kinds)
                captions = Captions(self.model, scene) if condition == "training forms" else None
                for question in questions:
                    yield self._row(condition, number, scene, question, captions)
            progress(f"{number + 1} of {scenes} scenes")

    def rows_of_large_images(self, scenes: int, factor: int, condition: str) -> Iterator[Row]:
        """Answers about scenes spread over images of `factor` times their width and height."""
        wanted = [kind for kind in KINDS if self.kinds is None or kind in self.kinds]
        for number in range(scenes):
            random = np.random.default_rng((self._seed(number), 9))
            scene = spread(draw_scene(self.world, self.sprites, self._seed(number), "test"), factor, random)
            for question in questions_about(scene, self.world, random, kinds=wanted):
                yield self._row(condition, number, scene, question, None)

    def _seed(self, number: int) -> int:
        return FIRST_SEED + self.seed * SEEDS + number

    def _row(self, condition: str, number: int, scene: Scene, question: Question, captions: Captions | None) -> Row:
        reply = asked(self.model, scene.image, question)
        right = self.judge.right(question, reply.content, scene)
        shown = {each.category for each in scene.objects}
        names = self.judge.named(reply.content) if question.says in _LISTS else []
        blank = only = caption = None
        if captions is not None:
            unseen = asked(self.model, np.full_like(scene.image, BLANK), question)
            blank = self.judge.right(question, unseen.content, scene)
            only = self.judge.right(question, self.question_only.answer(question), scene)
            caption = self.judge.right(question, captions.answer(question), scene)
        return Row(
            condition,
            number,
            question.kind,
            next(map(pointing_form, question.pointed.values()), "words"),
            None if question.subject is None else _side(scene, question.subject),
            " / ".join(message.content for message in question.conversation.messages),
            question.answer,
            reply.content,
            right,
            reply.probability,
            self.judge.boxes(question, reply),
            len(names),
            sum(name not in shown for name in names),
            names == list(question.truth) if question.says is Says.NAME_SET and right else None,
            only,
            caption,
            blank,
        )


def asked(model: DynRefer, image: np.ndarray, question: Question) -> Reply:
    """The model's reply."""
    conversation = question.conversation
    return model.ask(
        image,
        conversation.messages,
        question.pointed,
        answers=conversation.answers,
        max_tokens=conversation.max_tokens,
    )


def _side(scene: Scene, index: int) -> float:
    x1, y1, x2, y2 = scene.objects[index].box
    return max(x2 - x1, y2 - y1)

"""What answers without looking, or without reading: two ways of answering that a converser has to be better than.

Question-only: the most frequent answer that training gives to the same question, else to the same form of question,
else to questions of the same kind. Caption as answer: the caption of the region that is asked about, or of the whole
image, whatever is asked of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dynrefer.model.types import Corners, Task
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import Question
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

if TYPE_CHECKING:
    from dynrefer.model import DynRefer

TRAINING_SCENES = 600
FIRST_TRAINING_SEED = 7_100_000_000


class QuestionOnly:
    """The most frequent answers of training questions."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._answers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for question in questions:
            for key in _keys(question):
                self._answers[key][question.answer] += 1

    @classmethod
    def of_training(cls, world: World, sprites: SpritePack, scenes: int = TRAINING_SCENES) -> QuestionOnly:
        """From questions as training draws them, about scenes of its split."""
        seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + scenes)
        return cls(
            question
            for seed in seeds
            for question in questions_about(
                draw_scene(world, sprites, seed, "train"), world, np.random.default_rng(seed)
            )
        )

    def answer(self, question: Question) -> str:
        """Without a look at the image. Of allowed answers, the most frequent one, else the first."""
        allowed = question.conversation.answers
        for key in _keys(question):
            for answer, _ in self._answers[key].most_common() if key in self._answers else ():
                if not allowed or answer in allowed:
                    return answer
        return allowed[0] if allowed else ""


def _keys(question: Question) -> Sequence[tuple[str, str]]:
    """What an answer may depend on, from all words of the question to its kind alone."""
    kind = question.kind.value
    return (kind, f"words {question.conversation.question.lower()}"), (kind, f"form {question.form}"), (kind, "")


class Captions:
    """The describer's captions of one scene: of each object and of the whole image."""

    def __init__(self, model: DynRefer, scene: Scene) -> None:
        height, width = scene.image.shape[:2]
        whole: Corners = (0.0, 0.0, float(width), float(height))
        boxes = [whole, *(each.box for each in scene.objects)]
        described = model.describe(scene.image, boxes, task=Task.CAPTION)
        texts = ["" if each.caption is None else each.caption.text for each in described]
        self._whole, self._objects = texts[0], texts[1:]

    def answer(self, question: Question) -> str:
        """The caption of the question's first region; of the whole image where it has none."""
        return self._objects[question.region_objects[0]] if question.region_objects else self._whole

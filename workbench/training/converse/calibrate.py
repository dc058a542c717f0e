"""Fits what a converser says of its own answers to how often they are right, on scenes of seeds of their own.

    python -m dynrefer.workbench.training.converse.calibrate --out model/embedded/converser [--scenes 60]

It asks as anybody would, by `DynRefer.ask`; an answer is right where it is the expected one, word for word. The
scenes are those that validate a training; evaluation has others.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dynrefer.model.conversation import Reply
from dynrefer.model.networks.converse.embedded.embedded import EmbeddedConverser
from dynrefer.model.networks.converse.embedded.files import CONFIG, Calibration
from dynrefer.model.predictor import DynRefer
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.scenes.questions.facts import SceneFacts
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import YES_NO_KINDS, Question
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse.perceived import FIRST_VALIDATION_SEED, draw

YES_NO = ("yes", "no")
_UNCALIBRATED = Calibration(slope=1.0, offset=0.0, temperature=1.0)
_SKIPPED = 200  # validation scenes that a training looks at
_TEMPERATURES = np.geomspace(0.25, 4.0, 61)
_STEPS, _RATE = 4000, 0.1  # of the logistic regression


def calibrate(directory: Path, scenes: int) -> Calibration:
    """Of the converser in `directory`, the model's other parts being those that ship."""
    model = DynRefer.load("embedded", device="cpu", converser=directory)
    converser = model._converser
    assert isinstance(converser, EmbeddedConverser)
    converser.calibration = _UNCALIBRATED
    free: list[tuple[float, bool]] = []
    chosen: list[tuple[NDArray[np.float64], int]] = []
    world = World.load()
    for seed in range(FIRST_VALIDATION_SEED + _SKIPPED, FIRST_VALIDATION_SEED + _SKIPPED + scenes):
        facts = SceneFacts(draw(seed), world)
        for question in questions_about(facts.scene, world, np.random.default_rng((9, seed)), facts=facts):
            _ask(model, facts, question, free, chosen)
    slope, offset = logistic([value for value, _ in free], [right for _, right in free])
    return Calibration(slope, offset, temperature(chosen))


def _ask(
    model: DynRefer,
    facts: SceneFacts,
    question: Question,
    free: list[tuple[float, bool]],
    chosen: list[tuple[NDArray[np.float64], int]],
) -> None:
    """Questions with allowed answers are few, so what is answered yes or no is also asked with these two."""
    answers = question.conversation.answers
    if question.kind in YES_NO_KINDS:
        chosen.append(_choice(model, facts, question, YES_NO, question.truth[0]))
    if answers:
        if question.answer in answers:
            chosen.append(_choice(model, facts, question, answers, question.answer))
        return
    reply = _reply(model, facts, question, ())
    if reply.probability is not None:
        value = min(max(reply.probability, 1e-4), 1 - 1e-4)
        free.append((math.log(value / (1 - value)), reply.content in (question.answer, *question.same_answers)))


def _choice(
    model: DynRefer, facts: SceneFacts, question: Question, answers: Sequence[str], right: str
) -> tuple[NDArray[np.float64], int]:
    found = {each.answer: each.probability for each in _reply(model, facts, question, answers).answers}
    return np.log([max(found[each], 1e-6) for each in answers]), list(answers).index(right)


def _reply(model: DynRefer, facts: SceneFacts, question: Question, answers: Sequence[str]) -> Reply:
    asked = question.conversation
    return model.ask(
        facts.scene.image,
        asked.messages,
        question.pointed,
        answers=answers,
        max_tokens=asked.max_tokens,
        verify=False,
    )


def logistic(values: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """Slope and offset of the likeliest logistic function from values to what is right, by gradient descent."""
    x, y = np.asarray(values, float), np.asarray(right, float)
    scale = max(float(x.std()), 1e-6)
    z = (x - x.mean()) / scale
    slope = offset = 0.0
    for _ in range(_STEPS):
        wrong = 1 / (1 + np.exp(-slope * z - offset)) - y
        slope -= _RATE * (float((wrong * z).mean()) + 1e-4 * slope)
        offset -= _RATE * float(wrong.mean())
    return round(slope / scale, 4), round(offset - slope * float(x.mean()) / scale, 4)


def temperature(chosen: Sequence[tuple[NDArray[np.float64], int]]) -> float:
    """The one of some temperatures under which the right choices are likeliest. chosen: logits, place of the right."""

    def surprise(value: float) -> float:
        return sum(float(np.logaddexp.reduce(x / value) - x[place] / value) for x, place in chosen)

    return round(float(min(_TEMPERATURES, key=surprise)), 4) if chosen else 1.0


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description="Calibrate the converser's probabilities.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the converser")
    parser.add_argument("--scenes", type=int, default=60, help="[default: %(default)s]")
    options = parser.parse_args()
    torch.set_num_threads(1)  # on a busy machine several threads wait for each other
    found = calibrate(options.out, options.scenes)
    path = options.out / CONFIG
    settings = json.loads(path.read_text())
    settings["calibration"] = asdict(found)
    replace_text(path, json.dumps(settings, indent=2) + "\n")
    print(json.dumps(settings["calibration"]))


if __name__ == "__main__":
    main()

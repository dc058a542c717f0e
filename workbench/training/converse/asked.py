"""Questions of training about drawn scenes, made once and kept beside what is perceived, by several processes.

What is kept names objects by their index in the scene: regions are those that `perceived.py` has of each object, and a
span of an answer is an object. A file holds the questions of `CHUNK` scenes and appears whole or not at all.
"""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.scenes.questions.facts import SceneFacts
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import Forms, Question
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse.perceived import CHUNK, draw

ROUNDS = 4  # so many questions of every kind about each scene


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """seed: of the scene. messages: (role, content). regions: (id, index of the object). answers: the allowed ones.

    answer: as it should be written. spans: (start, end, index of the object) of the names in it.
    """

    seed: int
    kind: str
    messages: tuple[tuple[str, str], ...]
    regions: tuple[tuple[str, int], ...]
    answers: tuple[str, ...]
    answer: str
    spans: tuple[tuple[int, int, int], ...]


def ask(folder: Path, first_seed: int, count: int, processes: int) -> None:
    """Fill the folder with questions about `count` scenes, rounded up to whole files; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in range(first_seed, first_seed + count, CHUNK) if not _file(folder, seed).is_file()]
    if processes <= 1 or not missing:
        for seed in missing:
            _ask_chunk(folder, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(missing)), mp_context=context) as executor:
        for number, _ in enumerate(executor.map(_ask_chunk, [folder] * len(missing), missing), 1):
            print(f"asked about {number * CHUNK} of {len(missing) * CHUNK} scenes", flush=True)


def read_asked(folder: Path, first_seed: int, count: int) -> list[AskedQuestion]:
    """What `ask` wrote, in the order of seeds; files that are missing are left out."""
    found = []
    for first in range(first_seed, first_seed + count, CHUNK):
        path = _file(folder, first)
        if path.is_file():
            for given in json.loads(path.read_text(encoding="utf-8")):
                seed, kind, messages, regions, answers, answer, spans = given
                found.append(
                    AskedQuestion(
                        seed,
                        kind,
                        tuple((role, content) for role, content in messages),
                        tuple((name, index) for name, index in regions),
                        tuple(answers),
                        answer,
                        tuple((start, end, index) for start, end, index in spans),
                    )
                )
    return [each for each in found if each.seed < first_seed + count]


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.json"


@lru_cache(maxsize=1)
def _world() -> World:
    return World.load()


def _ask_chunk(folder: Path, first_seed: int) -> None:
    found = []
    for seed in range(first_seed, first_seed + CHUNK):
        facts = SceneFacts(draw(seed), _world())
        for number in range(ROUNDS):
            random = np.random.default_rng((8, seed, number))
            questions = questions_about(facts.scene, _world(), random, Forms.TRAINING, facts=facts)
            found += [_kept(each, seed) for each in questions]
    replace_text(_file(folder, first_seed), json.dumps(found, separators=(",", ":")))


def _kept(question: Question, seed: int) -> list[object]:
    asked = question.conversation
    regions = [[each.id, index] for each, index in zip(asked.regions, question.region_objects, strict=True)]
    spans = [[*span.span, index] for span, index in zip(question.spans, question.objects, strict=True)]
    messages = [[str(each.role), each.content] for each in asked.messages]
    return [seed, str(question.kind), messages, regions, list(asked.answers), question.answer, spans]

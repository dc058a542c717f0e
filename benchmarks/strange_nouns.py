"""`python -m benchmarks.strange_nouns`: whether the embedded converser says that it cannot tell what a glorp is.

Questions about drawn test scenes are asked three times: as they are; with a word that means nothing in the place of one
of their nouns; and with a word of English there that is used like no name of what the scenes are made of. To the last
two, the right answer is "I cannot tell."; to the first it never is. No training has seen any of these words.

    python -m benchmarks.strange_nouns --scenes 40 [--seed 1] [--converser DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.conversing import loaded
from dynrefer.model.conversation import CANNOT_TELL, Message, Role
from dynrefer.model.networks.converse.embedded.embedded import EmbeddedConverser
from dynrefer.workbench.evaluation.conversing.measuring import FIRST_SEED, SEEDS
from dynrefer.workbench.evaluation.conversing.summary import values
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, proportion
from dynrefer.workbench.evaluation.report.tables import grid_table
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.generator import questions_about
from dynrefer.workbench.scenes.questions.records import Forms
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse.strange_nouns import KINDS, StrangeWords

CONDITIONS = {"training forms": Forms.TRAINING, "held-out skeletons": Forms.SKELETONS}
NOUNS = ("as asked", "nonsense", "another word of English")


def main() -> None:
    """Measure, print the table, and write the file where one is asked for."""
    parser = argparse.ArgumentParser(description="Measure answers to questions about nouns that nobody knows.")
    parser.add_argument("--scenes", type=int, default=40, help="[default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="which scenes; 1 is the one of published figures")
    parser.add_argument("--converser", default="embedded", help="embedded, or a directory of the same kind")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, converser = loaded(options.converser, "embedded")
    if not isinstance(converser, EmbeddedConverser):
        parser.error(f"--converser {options.converser!r} is of another kind than the embedded one.")
    words = StrangeWords(converser.files.lexicon, converser.files.vectors, held_out=True)
    world, sprites = World.load(), SpritePack.load()
    refused: dict[tuple[str, str], list[bool]] = {}
    for number in range(options.scenes):
        seed = FIRST_SEED + options.seed * SEEDS + number
        scene = draw_scene(world, sprites, seed, "test")
        for place, (condition, forms) in enumerate(CONDITIONS.items()):
            random = np.random.default_rng((seed, 40 + place))
            for question in questions_about(scene, world, random, forms, kinds=KINDS):
                (message,) = question.conversation.messages
                text = message.content
                strange = [
                    words.instead_of_a_noun(text, question.kind, draw(random), random)
                    for draw in (words.nonsense, words.english)
                ]
                if None in strange:
                    continue
                for noun, said in zip(NOUNS, (text, *strange), strict=True):
                    reply = model.ask(scene.image, [Message(Role.USER, str(said))], question.pointed)
                    refused.setdefault((noun, condition), []).append(reply.content == CANNOT_TELL)
    found = {key: proportion(np.array(hits)) for key, hits in refused.items()}
    table = {noun: {each: found.get((noun, each), Estimate()) for each in CONDITIONS} for noun in NOUNS}
    print(grid_table(table, '"I cannot tell."'))
    if options.json is not None:
        about = {**provenance(), "seed": options.seed, "scenes": options.scenes}
        told = {"cannot_tell": values(table), "answers": sum(map(len, refused.values()))}
        options.json.write_text(json.dumps({**about, **told}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

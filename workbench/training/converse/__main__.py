"""Trains the embedded converser on questions about drawn scenes, in stages, and writes checkpoints.

    python -m dynrefer.workbench.training.converse --out runs/converse [--scenes 4000] [--minutes 150] [--resume]

First, what is perceived of the scenes and the questions about them are made by two processes and kept in the folder;
then the stages take `--minutes` of one processor. Killed at any time, a run with --resume loses two minutes at most.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from dynrefer.model.errors import ModelError
from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.lexicon import Lexicon
from dynrefer.model.networks.converse.embedded.reading import NetworkConfig
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.model.networks.converse.loading import FOLDER
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse.asked import AskedQuestion, ask, read_asked
from dynrefer.workbench.training.converse.earlier_turns import with_earlier_turns
from dynrefer.workbench.training.converse.initial_weights import initial_weights
from dynrefer.workbench.training.converse.perceived import (
    FIRST_SEED,
    FIRST_VALIDATION_SEED,
    perceive,
    read_perceived,
)
from dynrefer.workbench.training.converse.run import CHECKPOINT, ConverseTraining, right_answers, train
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.stages import NAMES, without
from dynrefer.workbench.training.converse.strange_nouns import with_strange_nouns
from dynrefer.workbench.training.converse.words import build_lexicon

LEXICON = "vocabulary.json"
PERCEIVED, ASKED = "perceived", "asked"


def run(options: argparse.Namespace) -> None:
    """Train, or go on with the run in `options.out`. Raises `SettingError`."""
    out: Path = options.out
    checkpoint = out / CHECKPOINT
    if checkpoint.exists() and not options.resume:
        raise SettingError(f"{str(checkpoint)!r} is there already: give --resume to go on with it, or another --out.")
    torch.set_num_threads(options.threads)
    parts = ((FIRST_VALIDATION_SEED, options.validation), (FIRST_SEED, options.scenes))
    for first, count in parts:
        perceive(out / PERCEIVED, first, count, options.processes)
        ask(out / ASKED, first, count, options.processes)
    training_set = [with_earlier_turns(read_asked(out / ASKED, first, count), first) for first, count in parts]
    vocabulary = Vocabulary.load(model_directory("embedded"))
    lexicon = lexicon_of(out / LEXICON, vocabulary, training_set[1])
    vectors = WordVectors.load(model_directory("embedded") / FOLDER / WORD_VECTORS)
    training_set[1] = with_strange_nouns(training_set[1], lexicon, vectors, FIRST_SEED)
    validation, samples = (
        Samples(read_perceived(out / PERCEIVED, first, count), asked, lexicon, vectors)
        for (first, count), asked in zip(parts, training_set, strict=True)
    )
    print(f"{len(samples.samples):,} questions about {len(samples.scenes):,} scenes", flush=True)
    config = network_config(vocabulary, samples)
    training = ConverseTraining(config, options.seed, bfloat16=options.bfloat16)
    if checkpoint.exists():
        training.restore(checkpoint)
    elif options.begin_with is not None:
        training.begin_with(initial_weights(options.begin_with, lexicon, training.network))
    train(training, samples, without(options.without), 60 * options.minutes, out)
    training.network.load_state_dict(training.mean)
    found = right_answers(training.network, validation)
    print(json.dumps({kind: f"{right}/{count}" for kind, (right, count) in found.items()}))
    right, count = (sum(column) for column in zip(*found.values(), strict=True))
    print(json.dumps({"right": round(right / max(count, 1), 4), "questions": count}), flush=True)


def lexicon_of(path: Path, vocabulary: Vocabulary, questions: list[AskedQuestion]) -> Lexicon:
    """The run's lexicon: that of its file, else one of the training questions, which is written there."""
    if not path.exists():
        texts = [
            text for each in questions for text in (*(said for _, said in each.messages), *each.answers, each.answer)
        ]
        replace_text(path, json.dumps(build_lexicon(World.load(), vocabulary, texts).to_json()) + "\n")
    return Lexicon.load(path, len(vocabulary.categories), len(vocabulary.attributes))


def network_config(vocabulary: Vocabulary, samples: Samples) -> NetworkConfig:
    """Sizes by the lexicon and the words' vectors, and by what is perceived."""
    return NetworkConfig(
        samples.lexicon.size,
        len(vocabulary.categories),
        len(vocabulary.attributes),
        len(vocabulary.tags),
        len(samples.scenes[0].image.features),
        samples.vectors.size,
    )


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.training.converse", description="Train the embedded converser."
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--scenes", type=int, default=4000, help="to train on [default: %(default)s]")
    parser.add_argument("--validation", type=int, default=100, help="scenes to validate on [default: %(default)s]")
    parser.add_argument("--minutes", type=float, default=150, help="of one processor [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="of the training [default: %(default)s]")
    parser.add_argument("--processes", type=int, default=2, help="that perceive [default: %(default)s]")
    parser.add_argument("--without", nargs="+", choices=NAMES, default=[], help="stages that are left out")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="matrix products in bfloat16: 1.6 times as fast where the processor has instructions for it (avx512_bf16)",
    )
    parser.add_argument("--begin-with", type=Path, metavar="DIR", help="with a converser's weights, and no random ones")
    parser.add_argument("--resume", action="store_true", help="go on with the run of the folder")
    parser.add_argument("--seed", type=int, default=0)
    try:
        run(parser.parse_args())
    except ModelError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()

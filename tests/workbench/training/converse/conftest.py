"""What is perceived of three scenes and asked about them, as a training has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.model.networks.converse.loading import FOLDER
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.converse import __main__ as command
from dynrefer.workbench.training.converse import asked as asked_module
from dynrefer.workbench.training.converse import perceived as perceived_module
from dynrefer.workbench.training.converse.perceived import FIRST_SEED, read_perceived
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.words import build_lexicon

SCENES = 3


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what is perceived of three scenes, and asked about them."""
    found = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        for module in (perceived_module, asked_module):
            patch.setattr(module, "CHUNK", SCENES)
        for first in (FIRST_SEED, perceived_module.FIRST_VALIDATION_SEED):
            perceived_module.perceive(found / command.PERCEIVED, first, SCENES, 1)
            asked_module.ask(found / command.ASKED, first, SCENES, 1)
    return found


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary.load(model_directory("embedded"))


@pytest.fixture(scope="session")
def samples(folder: Path, vocabulary: Vocabulary) -> Samples:
    questions = asked_module.read_asked(folder / command.ASKED, FIRST_SEED, SCENES)
    texts = [text for each in questions for text in (*(said for _, said in each.messages), each.answer)]
    lexicon = build_lexicon(World.load(), vocabulary, texts)
    vectors = WordVectors.load(model_directory("embedded") / FOLDER / WORD_VECTORS)
    return Samples(read_perceived(folder / command.PERCEIVED, FIRST_SEED, SCENES), questions, lexicon, vectors)

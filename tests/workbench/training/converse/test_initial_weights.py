"""A training may begin with a converser's weights, whose words it knows by their texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynrefer.model.networks.converse.embedded.files import VOCABULARY
from dynrefer.model.networks.converse.embedded.lexicon import SPECIAL
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.converse import __main__ as command
from dynrefer.workbench.training.converse.export import export
from dynrefer.workbench.training.converse.initial_weights import initial_weights
from dynrefer.workbench.training.converse.run import CHECKPOINT, ConverseTraining
from dynrefer.workbench.training.converse.samples import Samples

pytestmark = pytest.mark.training


@pytest.fixture
def converser(samples: Samples, vocabulary: Vocabulary, tmp_path: Path) -> Path:
    """A converser of the samples' lexicon but for one word, which stands where its first one did."""
    training = ConverseTraining(command.network_config(vocabulary, samples), 7)
    training.save(tmp_path / CHECKPOINT)
    words = ("another", *samples.lexicon.words[1:])
    (tmp_path / VOCABULARY).write_text(json.dumps(replace(samples.lexicon, words=words).to_json()))
    export(tmp_path, tmp_path / "made")
    return tmp_path / "made"


def test_words_are_taken_by_their_texts(samples: Samples, vocabulary: Vocabulary, converser: Path) -> None:
    network = ConverseTraining(command.network_config(vocabulary, samples), 1).network
    other = ConverseTraining(command.network_config(vocabulary, samples), 7).network.state_dict()
    found, own, first = initial_weights(converser, samples.lexicon, network), network.state_dict(), len(SPECIAL)
    assert torch.equal(found["word.weight"][first], own["word.weight"][first])  # a word that the folder has not
    assert torch.allclose(found["word.weight"][first + 1 :], other["word.weight"][first + 1 :], atol=1e-3)
    assert torch.allclose(found["to_word.weight"], other["to_word.weight"], atol=1e-3)
    training = ConverseTraining(network.config, 1)
    training.begin_with(found)
    assert torch.equal(training.mean["to_word.weight"], training.network.state_dict()["to_word.weight"])


def test_a_network_of_other_sizes_is_refused(samples: Samples, vocabulary: Vocabulary, converser: Path) -> None:
    config = replace(command.network_config(vocabulary, samples), layers=2, inner=48)
    with pytest.raises(SettingError, match="other sizes"):
        initial_weights(converser, samples.lexicon, ConverseTraining(config, 1).network)

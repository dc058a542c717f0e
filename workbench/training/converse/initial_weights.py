"""The weights of a converser as the first ones of a training, whose lexicon may have other words."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dynrefer.model.networks.converse.embedded.files import CONFIG, load_files
from dynrefer.model.networks.converse.embedded.lexicon import SPECIAL, Lexicon
from dynrefer.model.networks.converse.embedded.network import ConverseNetwork
from dynrefer.workbench.errors import SettingError

_BY_WORD = ("word.weight", "word_bias")


def initial_weights(directory: Path, lexicon: Lexicon, network: ConverseNetwork) -> dict[str, Tensor]:
    """The state of `network` with the weights of a converser's folder; words that it has not keep those of `network`.

    Raises `ModelError`: also for a network of other sizes.
    """
    own = network.config
    sizes = {name: getattr(own, name) for name in ("categories", "attributes", "tags", "channels", "vectors")}
    given = load_files(directory, sizes)
    state, weights = network.state_dict(), given.network.state_dict()
    places = {word: len(SPECIAL) + place for place, word in enumerate(given.lexicon.words)}
    for name in _BY_WORD:
        mixed = state[name].clone()
        mixed[: len(SPECIAL)] = weights[name][: len(SPECIAL)]
        for place, word in enumerate(lexicon.words, len(SPECIAL)):
            if word in places:
                mixed[place] = weights[name][places[word]]
        weights[name] = mixed
    for name, value in state.items():
        if name not in weights or value.shape != weights[name].shape:
            raise SettingError(f"--begin-with {str(directory / CONFIG)!r} is of a network of other sizes.")
    return weights

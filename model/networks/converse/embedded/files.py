"""The files of the embedded converser.

converser/config.json         sizes of the network, and what was measured for it
converser/vocabulary.json     its words and nouns
converser/model.safetensors   its weights, float16 or float32
converser/word_vectors.safetensors   how words are used in plain text, see `word_vectors.py`
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import read_json_object
from dynrefer.model.networks.converse.embedded.lexicon import Lexicon
from dynrefer.model.networks.converse.embedded.network import ConverseNetwork
from dynrefer.model.networks.converse.embedded.reading import NetworkConfig
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.model.networks.convolutional_weights import load_weights

CONFIG, VOCABULARY, WEIGHTS = "config.json", "vocabulary.json", "model.safetensors"
MODEL_TYPE = "dynrefer-converser"
_MOST = {"layers": 64, "width": 4096, "heads": 256, "inner": 16384, "pair": 1024}  # of a network that is built


@dataclass(frozen=True)
class Calibration:
    """Fitted on scenes that are neither trained nor evaluated on.

    slope, offset: the probability that a free answer is right is the logistic function of slope x l + offset, where l
    is the mean logarithm of its tokens' probabilities. temperature: of the choice among allowed answers.
    """

    slope: float = 4.0
    offset: float = 3.0
    temperature: float = 1.0

    @classmethod
    def from_mapping(cls, given: Any, path: Path) -> Calibration:
        """Raises `ConfigError`."""
        known = {field.name for field in fields(cls)}
        if not isinstance(given, dict) or set(given) - known:
            raise ConfigError(f"{str(path)!r}: 'calibration' holds {', '.join(sorted(known))}, and nothing else.")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in given.values()):
            raise ConfigError(f"{str(path)!r}: every number of 'calibration' is finite.")
        found = cls(**{name: float(value) for name, value in given.items()})
        if found.temperature <= 0:
            raise ConfigError(f"{str(path)!r}: 'temperature' of 'calibration' is above 0.")
        return found


@dataclass(frozen=True)
class ConverserFiles:
    """network: in evaluation mode, float32, on the CPU."""

    network: ConverseNetwork
    lexicon: Lexicon
    vectors: WordVectors
    calibration: Calibration


def load_files(directory: Path, expected: Mapping[str, int]) -> ConverserFiles:
    """Read a converser's folder. expected: how many categories, attributes, tags and channels the describer has.

    Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`.
    """
    path = directory / CONFIG
    given = read_json_object(path, "configuration of the converser")
    if given.get("model_type") != MODEL_TYPE:
        raise ConfigError(f"{str(path)!r} describes no converser of this kind: its model_type is not {MODEL_TYPE!r}.")
    if odd := set(given) - {"model_type", "network", "calibration", "trained"}:
        raise ConfigError(f"{str(path)!r}: unknown key {sorted(odd)[0]!r}.")
    sizes, names = given.get("network"), [field.name for field in fields(NetworkConfig)]
    if not isinstance(sizes, dict) or set(sizes) != set(names):
        raise ConfigError(f"{str(path)!r}: 'network' holds {', '.join(names)}, and nothing else.")
    for name, value in sizes.items():
        if not isinstance(value, int) or not 0 < value <= _MOST.get(name, 1_000_000):
            raise ConfigError(f"{str(path)!r}: {name!r} of 'network' is a whole number above 0, and not {value!r:.40}.")
    config = NetworkConfig(**sizes)
    for name, count in expected.items():
        if getattr(config, name) != count:
            raise ConfigError(
                f"{str(path)!r}: the converser was made for {getattr(config, name)} {name}, and the model has {count}."
            )
    if config.width % config.heads or config.counting >= config.heads:
        raise ConfigError(f"{str(path)!r}: 'heads' divides 'width', and 'counting' is below 'heads'.")
    lexicon = Lexicon.load(directory / VOCABULARY, config.categories, config.attributes)
    if lexicon.size != config.words:
        raise ConfigError(
            f"{str(directory / VOCABULARY)!r} has {lexicon.size} words, but the converser was made for {config.words}."
        )
    network = load_weights(ConverseNetwork(config), directory / WEIGHTS, "converser")
    vectors = WordVectors.load(directory / WORD_VECTORS)
    if vectors.size != config.vectors:
        raise ConfigError(
            f"{str(directory / WORD_VECTORS)!r} has vectors of {vectors.size} numbers, but the converser was made for "
            f"{config.vectors}."
        )
    return ConverserFiles(network, lexicon, vectors, Calibration.from_mapping(given.get("calibration", {}), path))


def network_settings(config: NetworkConfig) -> dict[str, int]:
    """`config` as `load_files` reads it."""
    return asdict(config)

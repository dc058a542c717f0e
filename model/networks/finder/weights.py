"""The files of the embedded finder: its configuration and its weights.

finder/config.json          sizes of the network, the names it was trained on, what was measured for it
finder/finder.safetensors   its weights, float16 or float32
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dynrefer.model.errors import ConfigError
from dynrefer.model.model_files import read_json_object
from dynrefer.model.networks.convolutional_weights import folded, load_weights
from dynrefer.model.networks.finder.network import FinderConfig, FinderNetwork

FOLDER = "finder"  # in a model directory
CONFIG, WEIGHTS = "config.json", "finder.safetensors"
_SIZES = tuple(field.name for field in fields(FinderConfig))


@dataclass(frozen=True)
class FinderFiles:
    """network: in evaluation mode, normalisations folded in. names: those that it was trained on, of the describer's
    categories. settings: everything else of the configuration."""

    network: FinderNetwork
    names: tuple[str, ...]
    settings: dict[str, Any]


def load_files(directory: Path) -> FinderFiles:
    """Read a finder's folder. Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`."""
    path = directory / CONFIG
    settings = read_json_object(path, "configuration of the finder")
    sizes, names = settings.pop("network", None), settings.pop("names", None)
    if not isinstance(sizes, dict) or set(sizes) != set(_SIZES):
        raise ConfigError(f"{str(path)!r}: 'network' holds {', '.join(_SIZES)}, and nothing else.")
    if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names):
        raise ConfigError(f"{str(path)!r}: 'names' is a list of the names that the finder was trained on.")
    try:
        network = FinderNetwork(FinderConfig(**{**sizes, "widths": tuple(sizes["widths"])}))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{str(path)!r}: 'network' describes no finder: {error}.") from error
    load_weights(network, directory / WEIGHTS, "finder")
    return FinderFiles(folded(network), tuple(names), settings)


def network_settings(config: FinderConfig) -> dict[str, Any]:
    """`config` as `load_files` reads it."""
    return asdict(config)

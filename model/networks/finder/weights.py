"""The files of the embedded finder: its configuration and its weights.

finder/config.json          sizes of the network, the names it was trained on, what was measured for it
finder/finder.safetensors   its weights, float16 or float32
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dynrefer.model.errors import ConfigError, WeightsError
from dynrefer.model.model_files import read_arrays, read_json_object
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
    own = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    file = directory / WEIGHTS
    arrays = read_arrays(file, own, "weights of the finder")
    for name, value in own.items():
        if arrays[name].shape != tuple(value.shape):
            raise WeightsError(
                f"{name!r} of {str(file)!r} has the shape {list(arrays[name].shape)}, but the finder needs "
                f"{list(value.shape)}."
            )
    network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()}, strict=False)
    return FinderFiles(folded(network.eval().requires_grad_(False)), tuple(names), settings)


def network_settings(config: FinderConfig) -> dict[str, Any]:
    """`config` as `load_files` reads it."""
    return asdict(config)


def folded(network: FinderNetwork) -> FinderNetwork:
    """The network with every normalisation folded into the convolution before it; the same numbers but for rounding."""
    for module in list(network.modules()):
        change, norm = getattr(module, "change", None), getattr(module, "norm", None)
        if isinstance(change, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module.change, module.norm = fuse_conv_bn_eval(change, norm), nn.Identity()
    return network

"""What released finders have in common: a directory as `save_pretrained` writes it, read without fetching anything, and
images prepared by the numbers of its preprocessor_config.json. The processors' own classes need torchvision or fetch
nothing that is not done here in a few lines: scale, subtract the mean, divide by the deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.errors import ConfigError, ModelNotFoundError, WeightsError
from dynrefer.model.finding import FinderInput
from dynrefer.model.geometry import ImageSize
from dynrefer.model.loading import by_library, quiet
from dynrefer.model.model_files import check_file, read_header, read_json_object
from dynrefer.model.network_building import TURNS
from dynrefer.model.suppression import suppress

CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
MOST = 100  # candidates of an image
_SAME = 0.75  # boxes that overlap by more are one candidate

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ReleasedFiles:
    """A directory. config: its config.json. mean, deviation: of RGB from 0 to 1."""

    directory: Path
    config: dict[str, Any]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    size: dict[str, Any]

    def pixels(self, image: FinderInput, device: torch.device, dtype: torch.dtype) -> Tensor:
        """(1, 3, h, w) as the network takes them."""
        mean, deviation = (np.array(each, np.float32) for each in (self.mean, self.deviation))
        scaled = (image.pixels.astype(np.float32) / 255 - mean) / deviation
        return torch.from_numpy(scaled).permute(2, 0, 1)[None].to(device, dtype)


def read_directory(directory: Path) -> ReleasedFiles:
    """Raises `ModelNotFoundError`, `ConfigError`, `WeightsError`."""
    if not directory.is_dir():
        raise ModelNotFoundError(
            f"there is no finder directory {str(directory)!r}; give embedded, none, or a local directory with a finder "
            "of transformers."
        )
    config = read_json_object(directory / CONFIG, "configuration of the finder")
    check_file(directory / WEIGHTS, "weights of the finder")
    read_header(directory / WEIGHTS, "weights of the finder")
    path = directory / PREPROCESSOR
    given = read_json_object(path, "settings of the finder's images")
    mean, deviation = (_three(given.get(name), name, path) for name in ("image_mean", "image_std"))
    if not all(value > 0 for value in deviation):
        raise ConfigError(f"image_std in {str(path)!r} must be above 0.")
    size = given.get("size", {})
    if not isinstance(size, dict) or not all(isinstance(value, int) and value > 0 for value in size.values()):
        raise ConfigError(f"size in {str(path)!r} must hold whole numbers above 0.")
    return ReleasedFiles(directory, config, mean, deviation, size)


def load_network(files: ReleasedFiles, kind: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """The network of a class of transformers, in evaluation mode on its device. Raises `WeightsError`,
    `DeviceMemoryError`."""
    return network_in(files.directory, "finder", kind, device, dtype)


def load_tokenizer(files: ReleasedFiles) -> Any:
    """The tokenizer of the directory, which knows where its tokens are in the text. Raises `ConfigError`."""
    return tokenizer_in(files.directory, "finder")


def network_in(directory: Path, what: str, kind: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """As `load_network`. what: what the directory holds, for sentences."""

    def load() -> Any:
        return kind.from_pretrained(
            directory, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )

    with quiet(), TURNS.building(dtype):
        network, report = by_library(load, WeightsError, f"the {what} in {str(directory)!r} cannot be read")
    for problem in ("missing_keys", "mismatched_keys"):
        if report.get(problem):
            first = sorted(map(str, report[problem]))[0]
            raise WeightsError(f"the weights of the {what} in {str(directory)!r} do not fit: {problem} {first}.")
    return translate_device_errors(lambda: network.eval().requires_grad_(False).to(device))


def tokenizer_in(directory: Path, what: str) -> Any:
    """As `load_tokenizer`. what: what the directory holds, for sentences."""
    from transformers import AutoTokenizer

    sentence = f"the tokenizer of the {what} in {str(directory)!r} cannot be read"
    with quiet():
        tokenizer = by_library(
            lambda: AutoTokenizer.from_pretrained(directory, local_files_only=True), ConfigError, sentence
        )
    if not tokenizer.is_fast:
        raise ConfigError(f"{str(directory)!r} needs a tokenizer.json: without one nobody knows where a token is.")
    return tokenizer


def upright_boxes(boxes: Floats, size: ImageSize) -> Floats:
    """(N, 4) cx, cy, w, h as parts of the upright image -> xyxy in its pixels, clipped to it."""
    middle, sides = boxes[:, :2], boxes[:, 2:]
    corners = np.concatenate([middle - sides / 2, middle + sides / 2], axis=1)
    return np.asarray(np.clip(corners, 0, 1) * np.array(size * 2, np.float32), dtype=np.float32)


def best_candidates(boxes: Floats, objectness: Floats, least: float, most: int = MOST) -> NDArray[np.int64]:
    """Which of N boxes are candidates: those of at least this objectness and a pixel's size, the same object once."""
    likely = np.flatnonzero((objectness >= least) & ((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= 1.0))
    likely = likely[np.argsort(-objectness[likely], kind="stable")][: 4 * most]
    return likely[suppress(boxes[likely], objectness[likely], _SAME)][:most]


def _three(value: Any, name: str, path: Path) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(each, int | float) for each in value):
        raise ConfigError(f"{name} in {str(path)!r} must be three numbers.")
    red, green, blue = (float(each) for each in value)
    return red, green, blue

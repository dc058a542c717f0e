"""SAM 2 behind a directory: a tiny one of random weights. Its own forward pass is the reference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Model

from dynrefer.model.errors import ConfigError, ModelNotFoundError, StoppedError, WeightsError
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.model.networks.segmenter.sam2 import DEVIATION, MEAN, Sam2Segmenter
from dynrefer.model.points import PointPrompt
from dynrefer.model.segmentation import PointedRegion
from dynrefer.model.types import RegionQuery
from tests.model.networks.segmenter.tiny_sam2 import SIDE, save_tiny_sam2

CPU = torch.device("cpu")
ONE = (PointPrompt(30, 40),)
TWO = (PointPrompt(80, 50), PointPrompt(10, 10, False))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sam2")
    save_tiny_sam2(directory)
    return directory


@pytest.fixture(scope="module")
def segmenter(directory: Path) -> Sam2Segmenter:
    found = load_segmenter(str(directory), Path(), CPU)
    assert isinstance(found, Sam2Segmenter)
    return found


def pointed(segmenter: Sam2Segmenter, seed: int, *points: tuple[PointPrompt, ...]) -> list[PointedRegion]:
    image = np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8)
    return list(segmenter.spec.prepare_each(image, [RegionQuery((0, 0, 0, 0), points=each) for each in points]))


def test_the_mask_is_the_one_with_the_highest_predicted_iou(segmenter: Sam2Segmenter, directory: Path) -> None:
    (region,) = pointed(segmenter, 0, TWO)
    network = Sam2Model.from_pretrained(directory).eval()
    pixels = torch.from_numpy(region.windows[0].pixels.copy()).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(values)[None, :, None, None] for values in (MEAN, DEVIATION))
    with torch.no_grad():
        outputs = network(
            pixel_values=(pixels - mean) / deviation,
            input_points=torch.tensor([[[[80 / 120 * SIDE, 50 / 90 * SIDE], [10 / 120 * SIDE, 10 / 90 * SIDE]]]]),
            input_labels=torch.tensor([[[1, 0]]]),
        )
    expected = outputs.pred_masks[0, 0, outputs.iou_scores[0, 0].argmax()].numpy()
    (found,) = segmenter.segment([region], lambda: False)
    np.testing.assert_allclose(found.logits, expected, rtol=2e-3, atol=2e-3)
    assert found.corners == (0, 0, 120, 90)


def test_a_box_may_stand_for_points(segmenter: Sam2Segmenter, directory: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    (region,) = segmenter.spec.prepare_boxes(image, [(30, 45, 90, 90)])
    network = Sam2Model.from_pretrained(directory).eval()
    with torch.no_grad():
        outputs = network(
            image_embeddings=network.get_image_embeddings(segmenter._pixels(region.windows[0].pixels)),
            input_boxes=torch.tensor([[[16.0, 32.0, 48.0, 64.0]]]),
        )
    expected = outputs.pred_masks[0, 0, outputs.iou_scores[0, 0].argmax()].numpy()
    (found,) = segmenter.segment([region], lambda: False)
    np.testing.assert_allclose(found.logits, expected, rtol=2e-3, atol=2e-3)


def test_an_image_is_encoded_once_and_the_batch_changes_nothing(segmenter: Sam2Segmenter) -> None:
    given = [*pointed(segmenter, 0, ONE, TWO), *pointed(segmenter, 1, ONE)]
    given = [given[0], given[2], given[1]]
    encode = Sam2Model.get_image_embeddings
    with mock.patch.object(Sam2Model, "get_image_embeddings", autospec=True, side_effect=encode) as encoded:
        together = segmenter.segment(given, lambda: False)
    assert encoded.call_count == 2
    for region, found in zip(given, together, strict=True):
        assert np.array_equal(segmenter.segment([region], lambda: False)[0].logits, found.logits)


def test_a_batch_that_nobody_waits_for_stops(segmenter: Sam2Segmenter) -> None:
    with pytest.raises(StoppedError):
        segmenter.segment(pointed(segmenter, 0, ONE), lambda: True)


def test_the_directorys_own_normalisation_is_used(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "sam2")
    settings = tmp_path / "sam2" / "preprocessor_config.json"
    settings.write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}))
    segmenter = Sam2Segmenter.load(tmp_path / "sam2", CPU)
    assert float(segmenter._pixels(np.full((SIDE, SIDE, 3), 255, np.uint8)).max()) == 1
    settings.write_text(json.dumps({"image_std": [0.5, 0, 0.5]}))
    with pytest.raises(ConfigError, match="image_std in .* must be above 0"):
        Sam2Segmenter.load(tmp_path / "sam2", CPU)
    settings.write_text(json.dumps({"image_mean": 3}))
    with pytest.raises(ConfigError, match="image_mean in .* must be three numbers"):
        Sam2Segmenter.load(tmp_path / "sam2", CPU)


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (shutil.rmtree, ModelNotFoundError, "there is no segmenter directory"),
        (without("config.json"), ModelNotFoundError, "configuration of the segmenter .* does not exist"),
        (without("model.safetensors"), ModelNotFoundError, "weights of the segmenter .* does not exist"),
        (truncated, WeightsError, "not a complete safetensors file"),
        (changed(model_type="bert"), ConfigError, r"describes 'bert', not a SAM 2 of transformers"),
        (changed(mask_decoder_config={"hidden_size": 32}), WeightsError, "the segmenter in"),
    ],
)
def test_what_is_wrong_with_a_directory_is_one_sentence(
    directory: Path, tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception], sentence: str
) -> None:
    folder = tmp_path / "sam2"
    shutil.copytree(directory, folder)
    spoil(folder)
    with pytest.raises(error, match=sentence) as raised:
        Sam2Segmenter.load(folder, CPU)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400 + len(str(folder))


def test_a_released_directory_names_the_video_model_that_holds_the_image_model(
    segmenter: Sam2Segmenter, directory: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sam2"
    shutil.copytree(directory, folder)
    changed(model_type="sam2_video")(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "memory_attention.layer_norm.weight": torch.ones(4)}, folder / "model.safetensors")
    (region,) = pointed(segmenter, 0, ONE)
    (expected,) = segmenter.segment([region], lambda: False)
    (found,) = Sam2Segmenter.load(folder, CPU).segment([region], lambda: False)
    assert np.array_equal(found.logits, expected.logits)

"""The evidence that ships, assembled: the same in any batch, and what it lacks is asked for by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.model.errors import ConfigError, ModelNotFoundError, WeightsError
from dynrefer.model.evidence.cutting import EvidenceCrops, EvidenceCutter
from dynrefer.model.evidence.evidence import Evidence, without_padding
from dynrefer.model.loading import EMBEDDED
from tests.repository import DOCS

CONFIG = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))["evidence"]
UNSURE_DRAWING = np.full(125, 1 / 125, np.float32)


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence.load(EMBEDDED, CONFIG, threads=1)


@pytest.fixture(scope="module")
def cat() -> list[EvidenceCrops]:
    """Three regions of the photograph of a cat: all of it, its face, a corner."""
    cutter = EvidenceCutter(Image.open(DOCS / "chelsea.jpg").convert("RGB"))
    return [cutter.cut(box) for box in ((0, 0, 368, 295), (90.0, 40.0, 300.0, 250.0), (0.0, 0.0, 60.0, 60.0))]


def test_a_region_is_seen_alike_in_any_company(evidence: Evidence, cat: list[EvidenceCrops]) -> None:
    together = evidence.look(cat)[::-1]
    for seen, alone in zip(together, [evidence.look([each])[0] for each in cat[::-1]], strict=True):
        for part in ("logits", "tower_names", "features", "image_features", "activation"):
            assert np.array_equal(getattr(seen, part), getattr(alone, part)), part
    assert evidence.look([]) == []


def test_a_photograph_is_named_and_an_unsure_one_gets_a_broader_word(
    evidence: Evidence, cat: list[EvidenceCrops]
) -> None:
    names = tuple(f"drawn {index}" for index in range(125))
    sightings = evidence.look(cat)
    found = evidence.identify(cat, sightings, np.stack([UNSURE_DRAWING] * 3), names)
    assert [each.photograph for each in found] == [True] * 3
    assert found[1].name == "cat" and found[1].probability > 0.5 and not found[1].is_parent
    for each, seen in zip(found, sightings, strict=True):
        assert seen.names is not None
        assert each.is_parent == (seen.names.max() < 0.5)
        assert each.probability == pytest.approx(
            evidence.names.best_parent(seen.names)[1] if each.is_parent else seen.names.max()
        )


def test_padding_is_cut_off_for_the_colour() -> None:
    image = np.zeros((20, 200, 3), np.uint8)
    image[:] = (200, 30, 30)
    crops = EvidenceCutter(image).cut((0, 0, 200, 20))
    activation = np.arange(49, dtype=np.float32).reshape(7, 7)
    crop, seen = without_padding(crops, activation)
    assert crop.shape == crops.crop.shape and seen.shape == (7, 7)
    assert (crop == np.array([200, 30, 30])[:, None, None]).all() and not (crops.crop == crop).all()
    assert seen.min() > activation.min() and seen.max() < activation.max()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory with the evidence alone."""
    shutil.copytree(EMBEDDED / "evidence", tmp_path / "evidence")
    return tmp_path


@pytest.mark.parametrize("name", ["tower.onnx", "detector.onnx", "names.json", "gate.safetensors"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / "evidence" / name).unlink()
    with pytest.raises((ModelNotFoundError, WeightsError), match=name):
        Evidence.load(directory, CONFIG, threads=1)


@pytest.mark.parametrize("name", ["tower.onnx", "detector.onnx", "gate.safetensors"])
def test_a_damaged_file_is_named(directory: Path, name: str) -> None:
    (directory / "evidence" / name).write_bytes(b"no such thing")
    with pytest.raises(WeightsError, match=name):
        Evidence.load(directory, CONFIG, threads=1)


@pytest.mark.parametrize("config", [{**CONFIG, "odd": {}}, {key: CONFIG[key] for key in ("gate", "fusion")}, {}])
def test_keys_that_do_not_fit_are_named(config: dict) -> None:
    with pytest.raises(ConfigError, match=r"it holds colour, fusion, gate"):
        Evidence.load(EMBEDDED, config, threads=1)

"""The evidence detector: windows around a region, boxes from distributions, support, and the network that ships."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import ModelNotFoundError, WeightsError
from dynrefer.model.evidence.detector import (
    BINS,
    COCO_NAMES,
    EvidenceDetector,
    combine,
    decode,
    overlaps,
    support,
)
from dynrefer.model.evidence.windows import SHARES, SIDE, cut_window, cut_windows
from tests.repository import ROOT

EMBEDDED = ROOT / "model" / "embedded" / "evidence" / "detector.onnx"
PICTURES = ROOT / "tests" / "recorded" / "images"


@pytest.fixture(scope="module")
def detector() -> EvidenceDetector:
    return EvidenceDetector.load(EMBEDDED, threads=1)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_window_has_its_region_in_the_middle_at_the_share_that_was_asked() -> None:
    window, box = cut_window(noise(1000, 1000), (400, 450, 600, 550), 0.5, 128)
    assert window.shape == (3, 128, 128) and window.dtype == np.uint8
    assert box.dtype == np.float32 and np.allclose(box, (32, 48, 96, 80))


def test_a_window_at_the_edge_moves_inwards() -> None:
    _, box = cut_window(noise(1000, 1000), (0, 900, 100, 1000), 0.5, 100)
    assert np.allclose(box, (0, 50, 50, 100))


def test_what_lies_outside_a_small_image_is_black_and_proportions_are_kept() -> None:
    image = np.full((50, 100, 3), 200, dtype=np.uint8)
    window, box = cut_window(image, (0, 0, 100, 50), 0.5, 100)
    assert np.all(window[:, 25:75] == 200)
    assert not window[:, :25].any() and not window[:, 75:].any()
    assert np.allclose(box, (0, 25, 100, 75))


@pytest.mark.parametrize("box", [(5.0, 5.0, 5.0, 5.0), (99.5, 59.5, 100.0, 60.0), (0.0, 0.0, 100.0, 60.0)])
def test_every_box_has_a_window(box: tuple[float, float, float, float]) -> None:
    windows, boxes = cut_windows(noise(60, 100), box)
    assert windows.shape == (len(SHARES), 3, SIDE, SIDE) and boxes.shape == (len(SHARES), 4)
    assert np.all(np.isfinite(boxes)) and boxes.min() >= -1 and boxes.max() <= SIDE + 1


def test_arrays_and_pillow_images_give_the_same_window() -> None:
    image = noise(90, 130)
    first, second = (cut_window(each, (20, 30, 60, 70), 0.5)[0] for each in (image, Image.fromarray(image)))
    assert np.array_equal(first, second)


def test_a_box_reaches_from_its_point_as_far_as_its_distributions_say() -> None:
    points = 4 * 4 + 2 * 2 + 1  # of a window of 32 pixels, strides 8, 16 and 32
    distances = np.full((points, 4, BINS), -50, dtype=np.float32)
    distances[:, :, 1] = 0  # one stride to each side
    distances[0, 2] = -50
    distances[0, 2, [0, 1]] = 0  # half a stride to the right
    boxes = decode(distances.reshape(points, -1), (32, 32))
    assert np.allclose(boxes[0], (0, 0, 8, 12), atol=1e-4)
    assert np.allclose(boxes[5], (4, 4, 20, 20), atol=1e-4)
    assert np.allclose(boxes[-1], (0, 0, 32, 32), atol=1e-4)


def test_overlaps_are_of_intersection_and_union() -> None:
    region = np.array([0, 0, 10, 10], dtype=np.float32)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 30, 30], [3, 3, 3, 3]], dtype=np.float32)
    assert np.allclose(overlaps(boxes, region), (1, 0.5, 25 / 175, 0, 0))


def test_a_name_is_supported_by_the_best_box_that_covers_the_region() -> None:
    region = np.array([0, 0, 10, 10], dtype=np.float32)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 4.5], [20, 20, 30, 30]], dtype=np.float32)
    scores = np.array([[0.2, 0.0, 0.0], [0.8, 0.4, 0.0], [0.9, 0.9, 0.9]], dtype=np.float32)
    assert np.allclose(support(scores, boxes, region), (0.4, 0.2, 0))
    assert not support(scores, boxes + 100, region).any()


def test_a_name_that_one_window_denies_has_no_support() -> None:
    supports = np.array([[[0.4, 0.9], [0.9, 0.0]]], dtype=np.float32)
    assert np.allclose(combine(supports), [[0.6, 0]])


def test_it_sees_a_person_a_cat_and_a_cup(detector: EvidenceDetector) -> None:
    found = {}
    for name, box in {
        "photo_astronaut": (0.04, 0.02, 0.71, 1.0),
        "photo_chelsea": (0.25, 0.02, 0.9, 1.0),
        "photo_coffee": (0.28, 0.04, 0.69, 0.76),
    }.items():
        image = np.asarray(Image.open(PICTURES / f"{name}.jpg").convert("RGB"))
        height, width = image.shape[:2]
        corners = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        supports = combine(detector.run(*cut_windows(image, corners)))
        found[name] = COCO_NAMES[int(supports.argmax())]
    assert found == {"photo_astronaut": "person", "photo_chelsea": "cat", "photo_coffee": "cup"}


def test_a_window_gives_the_same_bits_alone_and_among_others(detector: EvidenceDetector) -> None:
    windows = np.stack([noise(SIDE, SIDE, seed).transpose(2, 0, 1) for seed in range(5)])
    regions = np.array([[40, 30, 150, 160]] * 5, dtype=np.float32)
    together = detector.run(windows, regions)
    assert together.shape == (5, len(COCO_NAMES)) and together.dtype == np.float32
    for i in range(5):
        assert np.array_equal(detector.run(windows[i : i + 1], regions[i : i + 1]), together[i : i + 1])
    assert np.array_equal(detector.run(windows[::-1], regions), together[::-1])
    assert np.array_equal(EvidenceDetector.load(EMBEDDED, threads=2).run(windows, regions), together)


def test_no_windows_give_no_rows(detector: EvidenceDetector) -> None:
    assert detector.run(np.empty((0, 3, SIDE, SIDE), np.uint8), np.empty((0, 4), np.float32)).shape == (0, 80)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"detector.*nothing\.onnx"):
        EvidenceDetector.load(tmp_path / "nothing.onnx", threads=1)
    (tmp_path / "short.onnx").write_bytes(EMBEDDED.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"short\.onnx"):
        EvidenceDetector.load(tmp_path / "short.onnx", threads=1)


def test_cocos_names_are_eighty_and_different() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert [COCO_NAMES[i] for i in (0, 15, 39, 79)] == ["person", "cat", "bottle", "toothbrush"]

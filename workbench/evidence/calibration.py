"""Fit how tower and detector speak together, so that a name's probability holds.

    python -m dynrefer.workbench.evidence.calibration --model DIR --photographs benchmarks/photographs \
        --stamps /usr/share/tuxpaint/stamps --npm DIR --site-packages DIR --pictures DIR

writes the key "fusion" of the model's config.json. Three sets, none of which the model is measured on: the calibration
third of benchmarks/photographs; photographs of single objects from Debian's tuxpaint-stamps-default, composed onto
other photographs (`stamps.py`, whose backgrounds are in scikit-image's folder of data, --pictures); and the detector's
development boxes (`detector_study.py`, whose head says what --npm and --site-packages are). The settings with the
largest mean log of the probability of all accepted names are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import minimize
from tqdm import tqdm

from dynrefer.model.evidence.cutting import EvidenceCutter
from dynrefer.model.evidence.detector import EvidenceDetector, combine
from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.evidence.fusion import Fusion, FusionSettings
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.model.images import upright_pixels
from dynrefer.model.types import Corners
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.data.photographs import Split, read_photographs
from dynrefer.workbench.evidence import detector_study, stamps

Floats = NDArray[np.float32]
# How much a region of each set counts: photographs of scenes are what the service is for.
_WEIGHTS = {"photographs": 2.0, "detector": 1.0, "stamps": 0.5, "filling": 0.5}
_STAMPS_SEED = 11
_ROOM = 0.25  # around a stamp that fills its picture, of its sides
_STAMP_SIDES = (24.0, 400.0)  # pixels, of the longer side
_START = FusionSettings(
    temperature=1.0,
    vagueness=0.05,
    commonness=0.2,
    support=3.2,
    bias=1.0,
    scene=0.3,
    doubt=0.5,
    doubt_lacking=0.1,
    lacking=1.0,
    general=0.02,
    general_lacking=0.2,
)
_PRIOR = 0.02  # weight of the squared distance from the start: few regions, eleven numbers


@dataclass(frozen=True)
class Labelled:
    """A region whose right names are known. accepted: (K,) bool."""

    source: str
    image: NDArray[np.uint8]
    box: Corners
    accepted: NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """What is seen of R regions. logits: (R, 1000), support: (R, 80), coverage and source: (R,), accepted: (R, K)."""

    logits: Floats
    support: Floats
    coverage: Floats
    accepted: NDArray[np.bool_]
    source: NDArray[np.str_]


def photograph_regions(folder: Path, names: EvidenceNames) -> Iterator[Labelled]:
    """The boxes of the calibration photographs."""
    for entry in read_photographs(folder):
        if entry.split is Split.CALIBRATION:
            image = upright_pixels(entry.path)
            for each in entry.boxes:
                yield Labelled("photographs", image, each.box, _called(names, each.accepted))


def stamp_regions(folder: Path, pictures: Path, names: EvidenceNames) -> Iterator[Labelled]:
    """Two compositions per stamp: in a scene at a random scale, and alone, filling a picture as it is.

    Names are accepted that hold one of the stamp's classes.
    """
    rng = np.random.default_rng(_STAMPS_SEED)
    for sample in stamps.samples(folder, pictures, 1, _STAMPS_SEED):
        accepted = np.array([not set(sample.classes).isdisjoint(name.classes) for name in names.names])
        if sample.group == "crowded, exact":
            side = float(np.exp(rng.uniform(*np.log(_STAMP_SIDES))))
            yield Labelled("stamps", *_rescaled(sample.image, sample.box, side), accepted)
        elif sample.group == "alone, exact":
            yield Labelled("filling", *_filling(sample.image, sample.box, rng), accepted)


def _filling(image: NDArray[np.uint8], box: Corners, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Corners]:
    """The box with up to a quarter of its sides around it, as a picture that is one region."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = rng.uniform(0, _ROOM, 4) * ([x2 - x1, y2 - y1] * 2)
    height, width = image.shape[:2]
    a, b = max(0, round(x1 - left)), max(0, round(y1 - top))
    c, d = min(width, round(x2 + right)), min(height, round(y2 + bottom))
    return np.ascontiguousarray(image[b:d, a:c]), (0.0, 0.0, float(c - a), float(d - b))


def _rescaled(image: NDArray[np.uint8], box: Corners, side: float) -> tuple[NDArray[np.uint8], Corners]:
    """The image so small that the box's longer side has so many pixels; never larger than it is."""
    factor = min(1.0, side / max(box[2] - box[0], box[3] - box[1]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    across, down = size[0] / image.shape[1], size[1] / image.shape[0]
    x1, y1, x2, y2 = box
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    return small, (x1 * across, y1 * down, x2 * across, y2 * down)


def detector_regions(npm: Path, site_packages: Path, names: EvidenceNames) -> Iterator[Labelled]:
    """The detector's boxes: names that fall under one of COCO's right ones, else the thing's own."""
    for image, regions in detector_study.read(npm, site_packages):
        for region in regions:
            accepted = np.array([name.coco in region.names for name in names.names]) | _called(names, (region.thing,))
            if accepted.any():
                yield Labelled("detector", image, region.box, accepted)


def _called(names: EvidenceNames, words: Sequence[str]) -> NDArray[np.bool_]:
    """(K,) bool: whether one of the words is the name, its plural or a synonym."""
    return np.array([not set(words).isdisjoint((name.name, name.plural, *name.synonyms)) for name in names.names])


def look(tower: EvidenceTower, detector: EvidenceDetector, regions: Sequence[Labelled]) -> Seen:
    """Run both on every region."""
    logits, support, coverage = [], [], []
    for each in tqdm(regions, desc="look", disable=None):
        crops = EvidenceCutter(each.image).cut(each.box)
        logits.append(tower.run(crops.crop[None]).logits[0])
        support.append(combine(detector.run(crops.windows, crops.boxes)))
        coverage.append(crops.coverage)
    return Seen(
        np.stack(logits),
        np.stack(support),
        np.array(coverage, dtype=np.float32),
        np.stack([each.accepted for each in regions]),
        np.array([each.source for each in regions]),
    )


def fit(seen: Seen, names: EvidenceNames) -> FusionSettings:
    """The settings with the least loss, by the simplex method of Nelder and Mead from `_START`."""
    weights = np.array([_WEIGHTS[source] for source in seen.source])
    start = _as_vector(_START)

    def loss(vector: NDArray[np.float64]) -> float:
        right = np.array([_right(row) for row in mixed(Fusion(_as_settings(vector), names), seen)])
        surprise = -np.log(np.maximum(right, 1e-4))
        return float((weights * surprise).mean() + _PRIOR * np.square(vector - start).sum())

    def _right(row: tuple[Floats, NDArray[np.bool_]]) -> float:
        return float(row[0][row[1]].sum())

    options = {"maxiter": 220, "xatol": 0.01, "fatol": 1e-4, "initial_simplex": _simplex(start)}
    found = minimize(loss, start, method="Nelder-Mead", options=options)
    return FusionSettings(**{key: round(value, 4) for key, value in asdict(_as_settings(found.x)).items()})


def mixed(fusion: Fusion, seen: Seen) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Each region's names (K,) and which of them are accepted."""
    rows = zip(seen.logits, seen.support, seen.coverage.tolist(), seen.accepted, strict=True)
    for logits, support, coverage, accepted in rows:
        yield fusion.names_of(logits, support, coverage), accepted


_POSITIVE = ("temperature", "support", "general", "general_lacking")  # fitted as logarithms


def _as_vector(settings: FusionSettings) -> NDArray[np.float64]:
    values = asdict(settings)
    return np.array([np.log(values[key]) if key in _POSITIVE else values[key] for key in values])


def _as_settings(vector: NDArray[np.float64]) -> FusionSettings:
    keys = [each.name for each in fields(FusionSettings)]
    return FusionSettings(
        **{key: float(np.exp(value) if key in _POSITIVE else value) for key, value in zip(keys, vector, strict=True)}
    )


def _simplex(start: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([start[None], start + 0.4 * np.eye(len(start))])


def quality(fusion: Fusion, seen: Seen) -> dict[str, dict[str, float]]:
    """Of each set and of all: regions, top-1, mean probability of the best name."""
    rows = list(mixed(fusion, seen))
    right = np.array([accepted[names.argmax()] for names, accepted in rows])
    sure = np.array([float(names.max()) for names, _ in rows])
    found = {}
    for source in (*dict.fromkeys(seen.source.tolist()), "all"):
        of = np.ones(len(right), bool) if source == "all" else seen.source == source
        found[source] = {
            "regions": int(of.sum()),
            "top1": round(float(right[of].mean()), 3),
            "probability": round(float(sure[of].mean()), 3),
        }
    return found


def main() -> None:
    """The command; see the head of this file."""
    parser = argparse.ArgumentParser(description="Fit how tower and detector speak together.")
    for name in ("--model", "--photographs", "--stamps", "--npm", "--site-packages", "--pictures"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    folder: Path = options.model / FOLDER
    names = EvidenceNames.load(folder / NAMES_FILE)
    tower = EvidenceTower.load(folder / "tower.onnx", 1)
    detector = EvidenceDetector.load(folder / "detector.onnx", 1)
    regions = [
        *photograph_regions(options.photographs, names),
        *detector_regions(options.npm, options.site_packages, names),
        *stamp_regions(options.stamps, options.pictures, names),
    ]
    seen = look(tower, detector, regions)
    settings = fit(seen, names)
    path = options.model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["evidence"] = (config.get("evidence") or {}) | {"fusion": asdict(settings)}
    replace_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    start, fitted = (quality(Fusion(each, names), seen) for each in (_START, settings))
    print(json.dumps({"settings": asdict(settings), "start": start, "fitted": fitted}, indent=1))


if __name__ == "__main__":
    main()

"""Fit the gate between drawings and photographs, and what it needs to know of drawn crops.

    python -m dynrefer.workbench.evidence.gate --model DIR --stamps /usr/share/tuxpaint/stamps

writes `evidence/gate.safetensors` and the key "gate" of config.json into the model directory. It is fitted anew
whenever the network's weights change, because two of its six numbers are the network's.

Drawings are objects of training scenes, half of them as they are received: at another scale and as JPEG. Photographs
are random boxes of the pack of backgrounds and of the calibration photographs, and photographs of single objects on
plain grounds, as in a catalogue (`stamps.py`); at random scales and as JPEG, so that neither sharpness nor size nor a
plain ground tells one from the other. Principal directions come from one half of the drawings, the
regression from the other half: a residual on the crops that the directions were fitted to would look too small.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.evidence.crops import cut_crop
from dynrefer.model.evidence.evidence import DRAWN, FOLDER, GATE_FILE
from dynrefer.model.evidence.fusion import softmax
from dynrefer.model.evidence.gate import NUMBERS, DrawnFeatures, numbers
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.preparation import PreparationSpec, prepare
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.types import Corners, RegionQuery, Task
from dynrefer.workbench.data.atomic import replace_text, write_atomically
from dynrefer.workbench.data.photographs import Split, read_photographs
from dynrefer.workbench.evidence import stamps
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, store

Floats = NDArray[np.float32]

_FIRST_SEED = 2_000_000_000  # of the drawn scenes; no other use has these
_SCENES = 800
_STORED = 0.6  # of the drawn scenes
_COPIES, _RANDOM_BOXES = 3, 5  # of each photograph; of each copy
_WHITE = 0.6  # of the plain grounds
_LEAST_SIDE = 0.03  # of a random box, of the image's side
_DIRECTIONS = 64
_LEAST_DEVIATION = 1e-3
_BATCH = 64


@dataclass(frozen=True)
class Sample:
    """A region for the fit: its image, (H, W, 3) uint8, and its box, xyxy pixels."""

    image: NDArray[np.uint8]
    box: Corners


@dataclass(frozen=True)
class Observed:
    """What is seen of R samples: probabilities of the network's categories (R, C) and of the tower's names (R, K), and
    the tower's features of the regions and of their images (R, D)."""

    network: Floats
    tower: Floats
    features: Floats
    image: Floats

    def part(self, rows: slice) -> Observed:
        """Some of the samples."""
        return Observed(self.network[rows], self.tower[rows], self.features[rows], self.image[rows])


def drawn_samples(scenes: int = _SCENES) -> Iterator[Sample]:
    """Objects of training scenes; half of the scenes stored as JPEG, some of those at another scale."""
    world, sprites = World.load(), SpritePack.load()
    for seed in range(_FIRST_SEED, _FIRST_SEED + scenes):
        scene = draw_scene(world, sprites, seed, "train")
        rng = np.random.default_rng(seed)
        storage = draw_storage(rng, _STORED)
        if storage is not None:
            scene = store(scene, storage)
        for obj in scene.objects:
            yield Sample(scene.image, obj.box)


def catalogue_samples(folder: Path) -> Iterator[Sample]:
    """Every stamp on a plain ground, white more often than not: the object's box, and the whole picture."""
    for number, name in enumerate(stamps.STAMPS):
        rng = np.random.default_rng((_FIRST_SEED, number, 1))
        cut = stamps.stamp(folder, name)
        left, top, right, bottom = (int(value) for value in rng.uniform(0.02, 0.5, 4) * ([cut.width, cut.height] * 2))
        size = cut.width + left + right, cut.height + top + bottom
        ground = (255, 255, 255) if rng.random() < _WHITE else tuple(int(value) for value in rng.integers(120, 256, 3))
        picture = Image.new("RGB", size, ground)
        picture.paste(cut, (left, top), cut)
        boxes = [(left, top, left + cut.width, top + cut.height), (0, 0, *size)]
        yield from _stored(np.asarray(picture), boxes, rng)


def photograph_samples(folder: Path) -> Iterator[Sample]:
    """Random boxes of the pack of backgrounds, and random and labelled ones of the calibration photographs."""
    pictures: list[tuple[NDArray[np.uint8], list[Corners]]] = [(image, []) for image in PhotographPack.load()]
    for entry in read_photographs(folder):
        if entry.split is Split.CALIBRATION:
            pictures.append((upright_pixels(entry.path), [each.box for each in entry.boxes]))
    for number, (image, boxes) in enumerate(pictures):
        rng = np.random.default_rng((_FIRST_SEED, number))
        for _ in range(_COPIES):
            yield from _stored(image, [*boxes, *(_random_box(image, rng) for _ in range(_RANDOM_BOXES))], rng)


def _random_box(image: NDArray[np.uint8], rng: np.random.Generator) -> Corners:
    height, width = image.shape[:2]
    w, h = np.exp(rng.uniform(np.log(_LEAST_SIDE), 0.0, 2)) * (width, height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return float(x), float(y), float(x + w), float(y + h)


def _stored(image: NDArray[np.uint8], boxes: Sequence[Corners], rng: np.random.Generator) -> Iterator[Sample]:
    """At a random scale down to a fifth, with a random filter, and as JPEG of quality 60 to 95."""
    height, width = image.shape[:2]
    scale = float(np.exp(rng.uniform(np.log(0.2), 0.0)))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    filters = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
    picture = Image.fromarray(image).resize(size, filters[int(rng.integers(3))])
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=int(rng.integers(60, 96)))
    copy = np.asarray(Image.open(file).convert("RGB"))
    across, down = size[0] / width, size[1] / height
    for x1, y1, x2, y2 in boxes:
        yield Sample(copy, (x1 * across, y1 * down, x2 * across, y2 * down))


def observe(loaded: LoadedModel, tower: EvidenceTower, names: EvidenceNames, samples: Sequence[Sample]) -> Observed:
    """What network and tower see; loaded: a model without evidence."""
    config, task = loaded.network.config, CategoriesTask()
    priors = {name: tuple(ts) for name, ts in config.task_priors.items()}
    spec = PreparationSpec(config.num_views, config.view_size, priors)
    network, folded, features, images = [], [], [], []
    whole: dict[int, Floats] = {}  # image -> its features; samples of one image share the array
    for start in tqdm(range(0, len(samples), _BATCH), desc="observe", disable=None):
        part = samples[start : start + _BATCH]
        inputs = [
            each
            for sample in part
            for region in prepare(sample.image, [RegionQuery(sample.box, tasks=(Task.CATEGORIES,))], spec)
            for each in region.inputs
        ]
        outputs = run_batch(loaded, inputs, FeatureCache(0)).outputs
        network += [task.probabilities(loaded, output[task.name]) for output in outputs]
        seen = tower.run(np.stack([cut_crop(sample.image, sample.box) for sample in part]))
        folded += [names.fold(softmax(row)[None])[0] for row in seen.logits]
        features.append(seen.map.mean(axis=(2, 3)))
        for sample in part:
            if id(sample.image) not in whole:
                height, width = sample.image.shape[:2]
                crop = cut_crop(sample.image, (0, 0, width, height))
                whole[id(sample.image)] = tower.run(crop[None]).map.mean(axis=(2, 3))[0]
            images.append(whole[id(sample.image)])
    return Observed(np.stack(network), np.stack(folded).astype(np.float32), np.concatenate(features), np.stack(images))


def drawn_features(features: Floats) -> DrawnFeatures:
    """Mean, deviation and principal directions of drawn crops' features (R, D), as float16 would hold them."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + _LEAST_DEVIATION
    _, _, directions = np.linalg.svd((features - mean) / deviation, full_matrices=False)
    mean, deviation, directions = (
        part.astype(np.float16).astype(np.float32) for part in (mean, deviation, directions[:_DIRECTIONS])
    )
    return DrawnFeatures(mean, deviation, directions)


def fit(drawn: Observed, photographs: Observed) -> tuple[dict[str, Any], list[DrawnFeatures], dict[str, float]]:
    """The gate's settings, what it knows of drawings (in the order of `DRAWN`), and the proportion of the samples that
    it decides rightly, cross-validated."""
    half = len(drawn.features) // 2
    features = [drawn_features(part[:half]) for part in (drawn.features, drawn.image)]
    rows = [_numbers(each, features) for each in (drawn.part(slice(half, None)), photographs)]
    x, y = np.concatenate(rows), np.repeat([0, 1], [len(row) for row in rows])
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    standard = (x - mean) / deviation
    found = _regression(standard, y)
    settings = {
        "weights": [round(float(value), 4) for value in found.coef_[0]],
        "mean": [round(float(value), 4) for value in mean],
        "deviation": [round(float(value), 4) for value in deviation],
        "bias": round(float(found.intercept_[0]), 4),
    }
    return settings, features, _cross_validated(standard, y)


def _numbers(seen: Observed, drawn: Sequence[DrawnFeatures]) -> Floats:
    residuals = (known.log_residual(part) for known, part in zip(drawn, (seen.features, seen.image), strict=True))
    return numbers(seen.network, seen.tower, *residuals)


def _regression(x: Floats, y: NDArray[np.int64]) -> Any:
    return LogisticRegression(class_weight="balanced", max_iter=1000).fit(x, y)


def _cross_validated(x: Floats, y: NDArray[np.int64]) -> dict[str, float]:
    """Five contiguous folds of each kind, so that crops of one picture are mostly in one fold."""
    fold = np.concatenate([np.arange(count) * 5 // count for count in np.bincount(y)])
    right = np.zeros(len(y), dtype=bool)
    for index in range(5):
        held = fold == index
        right[held] = _regression(x[~held], y[~held]).predict(x[held]) == y[held]
    return {"drawn": round(float(right[y == 0].mean()), 4), "photographs": round(float(right[y == 1].mean()), 4)}


def main() -> None:
    """The command; see the head of this file."""
    parser = argparse.ArgumentParser(description="Fit the gate between drawings and photographs.")
    parser.add_argument("--model", type=Path, required=True, help="model directory, with the folder evidence")
    parser.add_argument("--photographs", type=Path, default=Path("benchmarks/photographs"), help="labelled photographs")
    parser.add_argument("--stamps", type=Path, required=True, help="folder of tuxpaint-stamps-default")
    options = parser.parse_args()
    folder: Path = options.model / FOLDER
    loaded = load_model(options.model, device="cpu", dtype="float32", evidence=False)
    tower, names = EvidenceTower.load(folder / "tower.onnx", 1), EvidenceNames.load(folder / NAMES_FILE)
    drawn = observe(loaded, tower, names, list(drawn_samples()))
    taken = [*photograph_samples(options.photographs), *catalogue_samples(options.stamps)]
    photographs = observe(loaded, tower, names, taken)
    settings, features, right = fit(drawn, photographs)
    arrays = {
        f"{what}_{part}": getattr(known, part).astype(np.float16)
        for what, known in zip(DRAWN, features, strict=True)
        for part in ("mean", "deviation", "directions")
    }
    with write_atomically(folder / GATE_FILE) as temporary:
        save_file(arrays, temporary)
    path = options.model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["evidence"] = (config.get("evidence") or {}) | {"gate": settings}
    replace_text(path, json.dumps(config, indent=2, sort_keys=True) + "\n")
    found = dict(zip(NUMBERS, settings["weights"], strict=True))
    print(
        json.dumps(
            {"right": right, "weights": found, "drawn": len(drawn.network), "photographs": len(photographs.network)}
        )
    )


if __name__ == "__main__":
    main()

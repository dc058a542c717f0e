"""Which crop of a region the evidence tower names best, and what a crop costs.

    python -m benchmarks.evidence_crops --stamps /usr/share/tuxpaint/stamps \
        --pictures .venv/lib/python3.11/site-packages/skimage/data [--checkpoint FILE.pth]

Every way of cutting is judged on the same regions (`workbench/evidence/stamps.py`), so differences are paired; their
standard error counts a stamp once. A name is right if the probability of the accepted classes, taken together, is
above that of every other everyday name; ImageNet's breeds and the like count as one name. With the checkpoint, the
float network is compared and timed too. Writes benchmarks/results/evidence_crops.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import SIDE, cut_crop, whole_pixels
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.model.geometry import boxes_towards
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.types import Corners
from dynrefer.workbench.evidence.lite2 import Checkpoint, Lite2
from dynrefer.workbench.evidence.stamps import GROUPS, Sample, labelled_samples, samples
from dynrefer.workbench.evidence.tower import ZERO, normalised
from dynrefer.workbench.profiling.machine import ROOT, provenance

Crop = NDArray[np.uint8]

# Ranges of ImageNet's classes that are one everyday name each, roughly.
_FOLDS = (
    (33, 38),
    (52, 69),
    (72, 78),
    (118, 122),
    (151, 269),
    (269, 273),
    (277, 281),
    (281, 286),
    (294, 298),
    (300, 308),
)
_FOLDS += ((321, 327),)
GROUP = np.arange(1000)
for _first, _end in _FOLDS:
    GROUP[_first:_end] = _first
_VIEWS = (0.1, 0.2, 0.4)
_ROUNDS = 9  # of timing; the median counts


def _resized(
    sample: Sample, longest: float, t: float = 0.0, filtering: Image.Resampling = Image.Resampling.BICUBIC
) -> Crop:
    """As `cut_crop`, with another limit of squeezing: 1 keeps the proportions, infinity fills the square."""
    size = (sample.image.shape[1], sample.image.shape[0])
    part = Image.fromarray(sample.image).crop(whole_pixels(_towards(sample, t), size))
    short = max(1, round(SIDE * min(1, longest * min(part.size) / max(part.size))))
    part = part.resize((SIDE, short) if part.width >= part.height else (short, SIDE), filtering)
    square = Image.new("RGB", (SIDE, SIDE), (ZERO, ZERO, ZERO))
    square.paste(part, ((SIDE - part.width) // 2, (SIDE - part.height) // 2))
    return np.asarray(square).transpose(2, 0, 1)


def _towards(sample: Sample, t: float) -> Corners:
    """As DynRefer nests its views: t = 0 is the box, t = 1 all of the image."""
    x1, y1, x2, y2 = boxes_towards(sample.box, (sample.image.shape[1], sample.image.shape[0]), (t,))[0].tolist()
    return x1, y1, x2, y2


def _squared(box: Corners) -> Corners:
    """The box with its shorter side made as long as the longer one, around the same middle."""
    x1, y1, x2, y2 = box
    half = max(x2 - x1, y2 - y1) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - half, y - half, x + half, y + half


def _view(t: float) -> Callable[[Sample], Crop]:
    return lambda sample: _resized(sample, math.inf, t)


def _margin(value: float) -> Callable[[Sample], Crop]:
    def cut(sample: Sample) -> Crop:
        x1, y1, x2, y2 = sample.box
        across, down = (x2 - x1) * value, (y2 - y1) * value
        return _resized(replace(sample, box=(x1 - across, y1 - down, x2 + across, y2 + down)), math.inf)

    return cut


# "tight" fills the square with the box. What has no other name is squeezed like it.
SINGLE: dict[str, Callable[[Sample], Crop]] = {
    "tight": lambda sample: _resized(sample, math.inf),
    "tight, bilinear": lambda sample: _resized(sample, math.inf, 0, Image.Resampling.BILINEAR),
    "as served": lambda sample: cut_crop(sample.image, sample.box),
    "squeezed to 1.25": lambda sample: _resized(sample, 1.25),
    "squeezed to 2": lambda sample: _resized(sample, 2),
    "padded": lambda sample: _resized(sample, 1),
    "square context": lambda sample: cut_crop(sample.image, _squared(sample.box)),
    "mirrored": lambda sample: np.ascontiguousarray(_resized(sample, math.inf)[:, :, ::-1]),
    **{f"margin {value:g}": _margin(value) for value in (0.05, 0.1, 0.2, 0.3)},
    **{f"t = {t:g}": _view(t) for t in _VIEWS},
    "t = 0.1, squeezed to 1.5": lambda sample: _resized(sample, 1.5, 0.1),
    "as served, mirrored": lambda sample: np.ascontiguousarray(cut_crop(sample.image, sample.box)[:, :, ::-1]),
}
# Weighted means of the logits of several crops.
MIXED: dict[str, dict[str, float]] = {
    "tight + margin 0.1": {"tight": 0.5, "margin 0.1": 0.5},
    "tight + margin 0.3": {"tight": 0.5, "margin 0.3": 0.5},
    "tight + square context": {"tight": 0.5, "square context": 0.5},
    "tight + padded": {"tight": 0.5, "padded": 0.5},
    "tight + mirrored": {"tight": 0.5, "mirrored": 0.5},
    "t = 0, 0.1": {"tight": 0.6, "t = 0.1": 0.4},
    "t = 0, 0.2": {"tight": 0.6, "t = 0.2": 0.4},
    "t = 0, 0.1, 0.2, 0.4": {"tight": 0.4, "t = 0.1": 0.3, "t = 0.2": 0.2, "t = 0.4": 0.1},
    "served + tight": {"as served": 0.5, "tight": 0.5},
    "served + mirrored": {"as served": 0.5, "as served, mirrored": 0.5},
    "served + t = 0.1": {"as served": 0.6, "t = 0.1, squeezed to 1.5": 0.4},
}


def judge(logits: NDArray[np.float32], regions: Sequence[Sample]) -> dict[str, NDArray[np.float64]]:
    """Per region: top1 and top5 (0 or 1), and the negative logarithm of the accepted classes' probability."""
    odds = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    rank, surprise = [], []
    for row, region in zip(odds, regions, strict=True):
        accepted = list(region.classes)
        mass = row[accepted].sum()
        others = row.copy()
        others[accepted] = 0
        rank.append((np.bincount(GROUP, others, minlength=1000) > mass).sum())
        surprise.append(-np.log(max(mass, 1e-12)))
    return {"top1": np.equal(rank, 0) * 1.0, "top5": np.less(rank, 5) * 1.0, "surprise": np.array(surprise)}


def table(found: dict[str, NDArray[np.float32]], regions: Sequence[Sample], base: str) -> list[dict[str, Any]]:
    """A row per way and group, with the paired difference from `base` and its standard error."""
    judged = {way: judge(logits, regions) for way, logits in found.items()}
    rows = []
    for way, scores in judged.items():
        for group in ("every stamp", *GROUPS):
            chosen = np.array([group in (region.group, "every stamp") for region in regions])
            if group == "every stamp":
                chosen &= np.array([region.group != "photograph" for region in regions])
            names = np.array([region.name for region in regions])[chosen]
            row: dict[str, Any] = {"crop": way, "boxes": group, "regions": int(chosen.sum())}
            for measure, values in scores.items():
                row[measure] = round(float(values[chosen].mean()), 4)
                row[f"{measure}_difference"], row[f"{measure}_error"] = _paired(
                    values[chosen] - judged[base][measure][chosen], names
                )
            rows.append(row)
    return rows


def _paired(differences: NDArray[np.float64], names: NDArray[np.str_]) -> tuple[float, float]:
    """Mean and standard error, where what has the same name counts once."""
    means = np.array([differences[names == name].mean() for name in np.unique(names)])
    return round(float(differences.mean()), 4), round(float(means.std(ddof=1) / len(means) ** 0.5), 4)


def timing(tower: EvidenceTower, network: Lite2 | None) -> list[dict[str, Any]]:
    """Core-milliseconds per crop, one thread: processor time, all measurements in turn."""
    rng = np.random.default_rng(0)
    ways: dict[tuple[str, int], Callable[[], object]] = {}
    for count in (1, 8):
        crops = rng.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
        ways["int8, ONNX Runtime", count] = lambda crops=crops: tower.run(crops)
        if network is not None:
            pixels = torch.from_numpy(normalised(crops)).contiguous(memory_format=torch.channels_last)
            ways["float32, torch", count] = lambda pixels=pixels: network(pixels)
    small, large = ((height, height * 4 // 3) for height in (480, 3000))
    for height, width in (small, large):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for name, box in (("all", (0, 0, width, height)), ("a tenth", (100, 100, 100 + width * 0.3, 100 + height / 3))):
            key = f"cut {name} of {width} x {height}"
            ways[key, 1] = lambda image=image, box=box: cut_crop(image, box)
    spent: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for _ in range(_ROUNDS):
        for (name, count), work in ways.items():
            start = time.process_time()
            for _ in range(8 // count):
                work()
            spent[name, count].append((time.process_time() - start) / 8 * 1e3)
    return [
        {"what": name, "batch": count, "core_ms": round(float(np.median(values)), 2)}
        for (name, count), values in spent.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence_crops", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--stamps", type=Path, required=True, help="folder of tuxpaint-stamps-default")
    parser.add_argument("--pictures", type=Path, required=True, help="scikit-image's folder of data")
    parser.add_argument("--checkpoint", type=Path, help="of Lite2, to compare with the float network")
    parser.add_argument(
        "--labelled", type=Path, default=ROOT / "benchmarks" / "photographs", help="its calibration third"
    )
    parser.add_argument("--names", type=Path, default=EMBEDDED / "evidence" / "names.json")
    parser.add_argument("--tower", type=Path, default=EMBEDDED / "evidence" / "tower.onnx")
    parser.add_argument("--copies", type=int, default=3, help="backgrounds per stamp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "evidence_crops.json")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tower = EvidenceTower.load(given.tower, threads=1)
    network = None
    if given.checkpoint:
        network = Lite2(Checkpoint.read(given.checkpoint)).to(memory_format=torch.channels_last)
    regions = list(samples(given.stamps, given.pictures, given.copies, given.seed))
    regions += labelled_samples(given.labelled, given.names)
    found = {way: _logits(tower, [cut(region) for region in regions]) for way, cut in SINGLE.items()}
    for way, parts in MIXED.items():
        found[way] = np.sum([weight * found[part] for part, weight in parts.items()], axis=0, dtype=np.float32)
    if network is not None:
        crops = [SINGLE["as served"](region) for region in regions]
        found["as served, float32"] = np.concatenate(
            [network(torch.from_numpy(normalised(part)))[0].numpy() for part in np.array_split(crops, len(crops) // 8)]
        )
    report = {
        **provenance(),
        "against_tight": table(found, regions, "tight"),
        "against_served": table({way: found[way] for way in found if "served" in way}, regions, "as served"),
        "timing": timing(tower, network),
    }
    given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)


def _logits(tower: EvidenceTower, crops: Sequence[Crop]) -> NDArray[np.float32]:
    """Part by part: the maps of all at once would not fit."""
    return np.concatenate([tower.run(np.stack(crops[start : start + 8])).logits for start in range(0, len(crops), 8)])


def _print(report: dict[str, Any]) -> None:
    for row in report["against_tight"] + report["against_served"]:
        measures = "  ".join(
            f"{name} {row[name]:.3f} ({row[name + '_difference']:+.3f} +- {row[name + '_error']:.3f})"
            for name in ("top1", "top5", "surprise")
        )
        print(f"{row['crop']:24s} {row['boxes']:17s} {row['regions']:5d}  {measures}")
    for row in report["timing"]:
        print(f"{row['what']}, batch {row['batch']}: {row['core_ms']} core-ms")


if __name__ == "__main__":
    main()

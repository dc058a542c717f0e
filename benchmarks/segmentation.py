"""`python -m benchmarks.segmentation`: how well a few clicks find an object, on drawn scenes and on ten photographs.

Clicks are set as a person would: first in the middle of the object, then in the middle of the largest mistake, by the
distance to its edge, within the object (positive) or beside it (negative). The mean over objects of the intersection
over union of the found mask with the true one is given after 1, 3 and 5 clicks. Drawn scenes: test seeds, artwork and
pairs of colour and kind that training never saw among them. Photographs: benchmarks/photographs/masks.json, on which
nothing was trained or chosen. `box`: the bounds of the true mask are given instead. `--segmenter DIR` measures a SAM 2
instead. `--validation` looks at other drawn scenes and at no photograph: what is chosen is chosen on them. Writes
results/segmentation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt

from dynrefer.model.loading import EMBEDDED
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.model.points import PointPrompt
from dynrefer.model.segmentation import Segmenter, bitmap_of
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Split
from dynrefer.workbench.scenes.world import World

HERE = Path(__file__).parent
RESULT = HERE / "results" / "segmentation.json"
PHOTOGRAPHS = HERE / "photographs"
CLICKS = (1, 3, 5)
SPLITS: tuple[Split, ...] = ("test", "heldout_sprites", "heldout_pairs")
LEAST_PIXELS = 30  # of an object's visible part
NOWHERE = (0.0, 0.0, 0.0, 0.0)

Case = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # an image and an object's true mask


def next_point(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> PointPrompt:
    """The middle of the deepest mistake; of the object itself where there is none."""
    missed, beyond = (_depth(mistake) for mistake in (truth & ~found, found & ~truth))
    positive = bool(missed.max() >= beyond.max())
    depth = missed if positive else beyond
    if depth.max() == 0:
        depth = _depth(truth)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return PointPrompt(float(x) + 0.5, float(y) + 0.5, positive)


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance to the edge, the image's included; 0 outside."""
    return np.asarray(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def after_clicks(segmenter: Segmenter, case: Case, most: int) -> tuple[list[float], list[float]]:
    """The intersection over union after each click, and the processor's seconds that each took on the device thread."""
    image, truth = case
    size = (image.shape[1], image.shape[0])
    found = np.zeros_like(truth)
    points: list[PointPrompt] = []
    overlaps, seconds = [], []
    for _ in range(most):
        points.append(next_point(found, truth))
        query = RegionQuery(NOWHERE, points=tuple(points))
        (region,) = segmenter.spec.prepare_each(image, [query])
        began = time.process_time()
        (mask,) = segmenter.segment([region], lambda: False)
        seconds.append(time.process_time() - began)
        found = bitmap_of(mask, points, size)
        overlaps.append(float((found & truth).sum() / (found | truth).sum()))
    return overlaps, seconds


def from_box(segmenter: Segmenter, case: Case) -> float:
    """The intersection over union where the bounds of the true mask are given instead of clicks."""
    image, truth = case
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    box = float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    (region,) = segmenter.spec.prepare_boxes(image, [box])
    (mask,) = segmenter.segment([region], lambda: False)
    found = bitmap_of(mask, (), (image.shape[1], image.shape[0]))
    return float((found & truth).sum() / (found | truth).sum())


def drawn_cases(split: Split, objects: int, validation: bool) -> list[Case]:
    """Objects of drawn scenes with their exact masks."""
    world, sprites = World.load(), SpritePack.load()
    drawn = RegionSet.draw(world, sprites, split, scenes_seed=0, regions=objects, validation=validation)
    cases = [(scene.image, scene.visible(i)) for scene in drawn.scenes for i in range(len(scene.objects))]
    return [case for case in cases if case[1].sum() >= LEAST_PIXELS][:objects]


def photograph_cases() -> Iterator[tuple[str, Case]]:
    """The photographs with their hand-drawn masks, by file name."""
    listed = json.loads((PHOTOGRAPHS / "masks.json").read_text("utf-8"))
    files = {image["id"]: image["file_name"] for image in listed["images"]}
    for annotation in listed["annotations"]:
        name = files[annotation["image_id"]]
        with Image.open(PHOTOGRAPHS / name) as opened:
            image = np.asarray(opened.convert("RGB"))
        drawn = Image.new("1", (image.shape[1], image.shape[0]))
        for polygon in annotation["segmentation"]:
            ImageDraw.Draw(drawn).polygon(list(zip(polygon[0::2], polygon[1::2], strict=True)), fill=1)
        yield name, (image, np.asarray(drawn))


def summary(rows: Sequence[Sequence[float]], boxes: Sequence[float]) -> dict[str, Any]:
    """Mean intersection over union after so many clicks and with a box, with its standard error."""
    found: dict[str, Any] = {"objects": len(rows)}
    columns = {f"clicks_{clicks}": [row[clicks - 1] for row in rows] for clicks in CLICKS}
    for name, values in (columns | {"box": list(boxes)}).items():
        found[name] = round(statistics.mean(values), 4)
        found[f"{name}_error"] = round(statistics.stdev(values) / len(values) ** 0.5, 4)
    return found


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description="Measure masks from clicks.")
    parser.add_argument("--segmenter", default="embedded", help="embedded, or a directory [default: %(default)s]")
    parser.add_argument("--weights", type=Path, default=EMBEDDED, help="directory of the model that holds it")
    parser.add_argument("--objects", type=int, default=200, help="of each set of drawn scenes [default: %(default)s]")
    parser.add_argument("--validation", action="store_true", help="other scenes, no photographs, no file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    segmenter = load_segmenter(options.segmenter, options.weights, torch.device("cpu"))
    if segmenter is None:
        parser.error("there is no segmenter")
    seconds: list[float] = []
    found: dict[str, Any] = {}
    for split in ("test",) if options.validation else SPLITS:
        rows, boxes = [], []
        for case in drawn_cases(split, options.objects, options.validation):
            boxes.append(from_box(segmenter, case))
            overlaps, spent = after_clicks(segmenter, case, max(CLICKS))
            rows.append(overlaps)
            seconds += spent
        found[split] = summary(rows, boxes)
        print(split, found[split], flush=True)
    found["cpu_ms_per_region"] = round(statistics.median(seconds) * 1e3, 1)
    print(found["cpu_ms_per_region"], "ms")
    if options.validation:
        return
    cases = dict(photograph_cases())
    photographs = {name: after_clicks(segmenter, case, max(CLICKS))[0] for name, case in cases.items()}
    boxes = [from_box(segmenter, case) for case in cases.values()]
    found["photographs"] = summary(list(photographs.values()), boxes)
    found["each_photograph"] = {
        name: [round(row[clicks - 1], 3) for clicks in CLICKS] for name, row in photographs.items()
    }
    print("photographs", found["photographs"])
    report = {**provenance(), "segmenter": options.segmenter, "clicks": CLICKS, **found}
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

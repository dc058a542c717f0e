"""`python -m benchmarks.finder_ablation`: what each loss and stage of the finder's training is worth, in small.

Every row is trained from the same random weights on the same scenes with the same number of steps, a small part of
those of the finder that ships, without one of its parts, or with one more; and is measured by the network alone, names
as dot products, on scenes that are neither trained nor evaluated on. So short a training says which parts help at its
beginning; the standard error of a row is some .02. Writes results/finder_ablation.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dynrefer.model.networks.finder.network import FinderNetwork
from dynrefer.model.suppression import suppress
from dynrefer.workbench.evaluation.finding import Boxes
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.finder.calibration import FIRST_SEED
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.settings import Stage, stages
from dynrefer.workbench.training.finder.train import FinderTraining, draw_scenes, text_embeddings, trained_names

RESULT = Path(__file__).parent / "results" / "finder_ablation.json"
SIDE = 256  # of a square that scenes are scaled to, pixels
FIRST_PLACE = 5_000  # of the seeds, beyond those that thresholds are fitted on
ROWS: dict[str, dict[str, float]] = {
    "as shipped": {},
    "with contrast across images": {"cross_image": 0.5},
    "with masked words": {"masked_words": 0.5},
    "without L1": {"l1": 0.0},
    "without GIoU": {"giou": 0.0},
    "without single objects first": {},
}


def plan_of(row: str, scale: float) -> list[Stage]:
    """The stages of a row, without masks. Left-out steps are given to the scenes."""
    objects, detector, _, last = stages(scale)
    changes = ROWS[row]
    if row == "without single objects first":
        detector = replace(detector, steps=objects.steps + detector.steps)
        plan = [detector, last]
    else:
        plan = [objects, detector, last]
    return [replace(each, weights=replace(each.weights, mask=0.0, **changes)) for each in plan]


def trained(row: str, scale: float, scenes: Sequence[Scene], texts: Tensor, names: Sequence[str]) -> FinderNetwork:
    """The network of a row: the running mean of its weights."""
    colours = World.load().colours
    training = FinderTraining(texts, len(colours), 0)
    for place, stage in enumerate(plan_of(row, scale)):
        if place:
            training.begin(place)
        samples = FinderSamples(scenes, PhotographPack.load(), names, 0, stage.batch, colours)
        while training.step < stage.steps:
            training.advance(stage, samples)
    network: FinderNetwork = training.network
    network.load_state_dict(training.mean)
    return network.eval()


@torch.inference_mode()
def measured(network: FinderNetwork, scenes: Sequence[Scene], texts: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """AP50 of names and of proposals."""
    named, proposed = Boxes(), Boxes()
    vectors = network.name_vectors(texts)
    for number, scene in enumerate(scenes, 1):
        height, width = scene.image.shape[:2]
        scale = np.array([width / SIDE, height / SIDE] * 2, np.float32)
        pixels = np.array(Image.fromarray(scene.image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        maps = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        best = maps.objectness[0].sigmoid().flatten().topk(100)
        boxes = maps.boxes[0].flatten(0, 1)[best.indices].numpy().clip(0, SIDE) * scale
        shares = network.name_logits(maps.embeddings[0].flatten(0, 1)[best.indices], vectors).softmax(-1).numpy()
        scores = np.sqrt(shares * best.values.numpy()[:, None])
        for each in (named, proposed):
            each.images.append({"id": number, "width": width, "height": height})
        for obj in scene.objects:
            if obj.category in names:
                named.add_truth(number, names.index(obj.category) + 1, obj.box)
            proposed.add_truth(number, 1, obj.box)
        for place in suppress(boxes, best.values.numpy(), 0.6).tolist():
            proposed.add_found(number, 1, boxes[place].tolist(), float(best.values[place]))
            for name in np.argsort(-scores[place])[:5].tolist():
                named.add_found(number, name + 1, boxes[place].tolist(), float(scores[place, name]))
    known = list(range(1, len(names) + 1))
    return {"names_AP50": named.average(known)["AP50"], "proposals_AP50": proposed.average([1])["AP50"]}


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description="Ablate the finder's training in small.")
    parser.add_argument("--scale", type=float, default=0.02, help="of the shipping steps [default: %(default)s]")
    parser.add_argument("--scenes", type=int, default=1500, help="for training [default: %(default)s]")
    parser.add_argument("--measure", type=int, default=100, help="scenes that are measured on [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world, sprites = World.load(), SpritePack.load()
    names = trained_names(world)
    texts, scenes = text_embeddings(names), draw_scenes(options.scenes, options.threads)
    first = FIRST_SEED + FIRST_PLACE
    others = [draw_scene(world, sprites, first + place, "test") for place in range(options.measure)]
    rows: dict[str, Any] = {}
    for row in ROWS:
        began = time.process_time()
        network = trained(row, options.scale, scenes, texts, names)
        spent = round(time.process_time() - began)
        rows[row] = {**measured(network, others, texts, names), "core_seconds": spent}
        print(row, json.dumps(rows[row]), flush=True)
    steps = [asdict(each)["steps"] for each in plan_of("as shipped", options.scale)]
    result = {**provenance(), "steps_of_each_stage": steps, "scenes_measured": options.measure, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

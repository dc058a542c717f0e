"""`python -m benchmarks.finder_ablation`: what each loss and the last stage are worth to a finder, scaled down.

Each row is a small finder trained from the same random weights, on the same drawn scenes, with the same numbers of
steps; only what the row names is left out. "full" has GLIPv2's two losses too, which the finder that ships lacks. The
scenes show 15 names only: more are not learned in the minute of a row, and so nothing is said of names that were never
seen. One run a row and a small network: small differences are chance. Measured on scenes of seeds that neither
training, calibration nor evaluation draws: of all objects those among the ten best boxes (overlap >= 0.5), and of the
found ones the overlap of the box, whether the name is right among the 15, and the overlap of the mask. Rows that the
result holds already are not repeated. Writes results/finder_ablation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from dynrefer.model.networks.finder.network import FinderConfig, FinderMaps, FinderNetwork, mask_logits
from dynrefer.model.suppression import suppress
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.drawn_batches import draw_pool
from dynrefer.workbench.training.finder.losses import LossWeights, overlaps
from dynrefer.workbench.training.finder.samples import FinderSamples
from dynrefer.workbench.training.finder.settings import UNUSUAL, Stage, switched
from dynrefer.workbench.training.finder.train import FIRST_SEED, FinderTraining, text_embeddings, trained_names

RESULT = Path(__file__).parent / "results" / "finder_ablation.json"
CONFIG = FinderConfig(widths=(8, 16, 40, 64, 96), neck=48, embedding=64, prototypes=16)
_FIRST_SEED = 4_700_000_000
_EVERY = 8  # every eighth trained name is shown
_SIDE = 192  # of the image's longest side where it is measured
_MEAN_OF = 0.97  # stages are short
_REGIONS, _SAME, _RIGHT = 10, 0.6, 0.5


@dataclass(frozen=True)
class Row:
    """A training: losses left out, and whether the last stage is."""

    name: str
    without: tuple[str, ...] = ()
    last_stage: bool = True


ROWS = (
    Row("full"),
    Row("without cross_image", ("cross_image",)),
    Row("without masked_words", ("masked_words",)),
    Row("without both, as shipped", ("cross_image", "masked_words")),
    Row("without contrast", ("contrast",)),
    Row("without contrast and cross_image", ("contrast", "cross_image")),
    Row("without l1", ("l1",)),
    Row("without giou", ("giou",)),
    Row("without mask", ("mask",)),
    Row("without the last stage", last_stage=False),
)


def small_stages(steps: int) -> tuple[Stage, ...]:
    """The stages of the finder that ships on small canvases. steps: of the longest stage."""
    no_mask = LossWeights(mask=0.0)
    return (
        Stage("objects", round(steps * 1.2), (64,), 2e-3, 32, no_mask, close=True),
        Stage("detector", steps, (96, 128), 2e-3, 8, no_mask),
        Stage("masks", round(steps * 0.15), (128,), 2e-3, 8, LossWeights(0, 0, 0, 0, 1), frozen=True),
        Stage("all", round(steps * 0.5), (160, 192), 1e-3, 6, LossWeights(contrast=0.5)),
    )


def train_row(
    row: Row, steps: int, scenes: Sequence[Scene], photographs: PhotographPack, names: tuple[str, ...]
) -> FinderNetwork:
    """The trained network, with the running mean of its weights. names: what the scenes show."""
    extra = [name for name in UNUSUAL if name not in row.without]
    plan = switched(small_stages(steps), extra, row.without)
    plan = plan if row.last_stage else plan[:-1]
    training = FinderTraining(text_embeddings(names), 0, config=CONFIG, words="masked_words" in extra, mean_of=_MEAN_OF)
    for place, stage in enumerate(plan):
        if place:
            training.begin(place)
        samples = FinderSamples(scenes, photographs, names, 0, stage.batch)
        for _ in range(stage.steps):
            training.advance(stage, samples)
    training.network.load_state_dict(training.mean)
    return training.network.eval()


@torch.inference_mode()
def measure(
    network: FinderNetwork, scenes: Sequence[Scene], texts: torch.Tensor, names: Sequence[str]
) -> dict[str, Any]:
    """The figures of the head of this file. texts: (T, E) of the names."""
    vectors = network.name_vectors(texts)
    found: list[bool] = []
    boxes: list[float] = []
    masks: list[float] = []
    named: list[bool] = []
    for scene in scenes:
        pixels, scale = _prepared(scene)
        maps = network(pixels)
        candidates, scores = maps.boxes[0].flatten(0, 1), maps.objectness[0].flatten()
        best = scores.topk(min(200, len(scores))).indices
        kept = best[torch.from_numpy(suppress(candidates[best].numpy(), scores[best].numpy(), _SAME)[:_REGIONS])]
        for index, each in enumerate(scene.objects):
            truth = torch.tensor(each.box)[None].expand(len(kept), -1) * scale
            overlap = overlaps(candidates[kept], truth)[0]
            found.append(bool(overlap.max() >= _RIGHT))
            if not found[-1]:
                continue
            place = kept[overlap.argmax()]
            boxes.append(float(overlap.max()))
            logits = network.name_logits(maps.embeddings[0].flatten(0, 1)[place], vectors)
            named.append(names[int(logits.argmax())] == each.category)
            masks.append(_mask_overlap(maps, place, candidates[place], scene, index, scale))
    return {
        "found_among_ten": _share(found),
        "box_overlap": round(statistics.fmean(boxes), 3) if boxes else None,
        "name_right": _share(named),
        "mask_overlap": round(statistics.fmean(masks), 3) if masks else None,
        "objects": len(found),
    }


def _prepared(scene: Scene) -> tuple[torch.Tensor, float]:
    """(1, 3, H, W) uint8 pixels, padded to multiples of 32, and their scale."""
    height, width = scene.image.shape[:2]
    scale = _SIDE / max(height, width)
    picture = Image.fromarray(scene.image).resize((round(width * scale), round(height * scale)))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return functional.pad(pixels, (0, -pixels.shape[2] % 32, 0, -pixels.shape[1] % 32), value=127)[None], scale


def _mask_overlap(
    maps: FinderMaps, place: torch.Tensor, box: torch.Tensor, scene: Scene, index: int, scale: float
) -> float:
    """Intersection over union of the mask inside its box with the visible pixels, at stride 4."""
    mask = mask_logits(maps.coefficients[0].flatten(0, 1)[place][None], maps.prototypes[0])[0] > 0
    rows, columns = ((torch.arange(size) + 0.5) * 4 for size in mask.shape)
    x1, y1, x2, y2 = box
    mask &= ((rows >= y1) & (rows <= y2))[:, None] & ((columns >= x1) & (columns <= x2))[None]
    height, width = scene.image.shape[:2]
    truth = torch.zeros_like(mask)
    seen_rows, seen_columns = (rows / scale).long(), (columns / scale).long()
    inside = (seen_rows < height)[:, None] & (seen_columns < width)[None]
    visible = torch.from_numpy(scene.visible(index))
    truth[inside] = visible[seen_rows.clamp(max=height - 1)][:, seen_columns.clamp(max=width - 1)][inside]
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 0.0


def _share(rights: Sequence[bool]) -> dict[str, float | int] | None:
    """The proportion with its standard error, over objects."""
    if not rights:
        return None
    share = statistics.fmean(rights)
    error = (share * (1 - share) / len(rights)) ** 0.5
    return {"value": round(share, 3), "standard_error": round(error, 3), "of": len(rights)}


def main() -> None:
    """The command; the head of this file says what it does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=250, help="of the longest stage [default: %(default)s]")
    parser.add_argument("--scenes", type=int, default=500, help="to train on [default: %(default)s]")
    parser.add_argument("--measured", type=int, default=150, help="scenes to measure on [default: %(default)s]")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="rows [default: all]")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    length = {
        "steps": options.steps,
        "scenes": options.scenes,
        "measured": options.measured,
        "side": _SIDE,
        "every_nth_name": _EVERY,
    }
    known: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    rows = known["rows"] if known.get("length") == length else {}
    world, sprites, photographs = World.load(), SpritePack.load(), PhotographPack.load()
    names = trained_names(world)[::_EVERY]
    others = frozenset(each.name for each in world.categories if each.name not in names)
    texts = text_embeddings(names)
    scenes = draw_pool(FIRST_SEED, options.scenes, 1, photograph_backgrounds=0.15, without=others)
    world = world.without(others)
    unseen = [draw_scene(world, sprites, _FIRST_SEED + place, "test") for place in range(options.measured)]
    for row in ROWS:
        if row.name in rows or (options.only and row.name not in options.only):
            continue
        began = time.process_time()
        network = train_row(row, options.steps, scenes, photographs, names)
        spent = round(time.process_time() - began)
        rows[row.name] = {**measure(network, unseen, texts, names), "training_core_seconds": spent}
        content = {"length": length, **provenance(), "rows": rows}
        replace_text(options.out, json.dumps(content, indent=1) + "\n")
        print(row.name, json.dumps(rows[row.name]), flush=True)


if __name__ == "__main__":
    main()

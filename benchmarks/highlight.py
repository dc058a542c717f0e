"""What blanking all but a region's mask does to its description.

    python -m benchmarks.highlight [--regions 600]

The same regions twice, as they are and highlighted, so that differences are paired: objects of drawn scenes of the test
split with their exact masks (what of an object is visible), and the hand-drawn masks of ten photographs
(benchmarks/photographs/masks.json) with the names of benchmarks/photographs/labels.json. The box is the mask's in both.
Writes benchmarks/results/highlight.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import DynRefer
from dynrefer.model.images import upright_pixels
from dynrefer.model.masks import box_from_mask, mask_from_bitmap
from dynrefer.model.polygons import polygon_bitmap
from dynrefer.model.types import RegionDescription, RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.metrics.caption_scores import relation_hits
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import SceneObject
from dynrefer.workbench.scenes.world import World

HERE = Path(__file__).parent
PHOTOGRAPHS, RESULT = HERE / "photographs", HERE / "results" / "highlight.json"
SCENES_SEED = 16
LEAST_PIXELS = 16  # of an object that is visible

Judgement = dict[str, bool]


@dataclass(frozen=True)
class Pair:
    """One region, described as it is and highlighted: what of each is right."""

    plain: Judgement
    highlighted: Judgement


def described_twice(
    model: DynRefer, image: NDArray[np.uint8], bitmaps: Sequence[NDArray[np.bool_]]
) -> Iterator[tuple[RegionDescription, RegionDescription]]:
    """Each region as it is, and highlighted."""
    masks = [mask_from_bitmap(bitmap) for bitmap in bitmaps]
    plain = [RegionQuery(box_from_mask(mask), mask=mask, top_k=1_000) for mask in masks]
    regions = model.prepare(image, [*plain, *(replace(query, highlight=True) for query in plain)])
    found = [model.finish(*each) for each in zip(regions, model.run(regions), strict=True)]
    return zip(found[: len(masks)], found[len(masks) :], strict=True)


def drawn_pairs(model: DynRefer, world: World, least: int) -> Iterator[Pair]:
    """Of the test split's scenes."""
    drawn = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=SCENES_SEED, regions=least)
    for scene in drawn.scenes:
        bitmaps = {place: scene.visible(place) for place in range(len(scene.objects))}
        seen = [place for place, bitmap in bitmaps.items() if bitmap.sum() >= LEAST_PIXELS]
        found = described_twice(model, scene.image, [bitmaps[place] for place in seen])
        for place, both in zip(seen, found, strict=True):
            yield Pair(*(judged_drawing(each, scene.objects[place], world) for each in both))


def judged_drawing(found: RegionDescription, truth: SceneObject, world: World) -> Judgement:
    """Category, colour and pattern by their best attribute, the caption's noun and relation, and the domain."""
    assert found.categories and found.attributes is not None and found.caption is not None
    judgement = {
        "category": found.categories[0].name == truth.category,
        "caption_noun": truth.category in found.caption.text,
        "caption_relation": bool(relation_hits([found.caption.text], [truth.relation], world.relations)[0]),
        "taken_for_a_drawing": found.domain == "drawing",
    }
    for kind, value in truth.attributes.items():
        best = next((each for each in found.attributes if each.type == kind), None)
        judgement[f"attribute_{kind}"] = best is not None and best.value == value
    return judgement


def photograph_pairs(model: DynRefer) -> Iterator[tuple[str, Pair]]:
    """Of the ten with masks, by file name."""
    listed = json.loads((PHOTOGRAPHS / "masks.json").read_text("utf-8"))
    accepted = json.loads((PHOTOGRAPHS / "labels.json").read_text("utf-8"))
    files = {image["id"]: image["file_name"] for image in listed["images"]}
    for annotation in listed["annotations"]:
        name = files[annotation["image_id"]]
        image = upright_pixels(PHOTOGRAPHS / name)
        bitmap = polygon_bitmap(annotation["segmentation"], (image.shape[1], image.shape[0]))
        names = nearest_names(accepted, name, box_from_mask(mask_from_bitmap(bitmap)))
        ((plain, shown),) = described_twice(model, image, [bitmap])
        yield name, Pair(judged_photograph(plain, names), judged_photograph(shown, names))


def judged_photograph(found: RegionDescription, names: Sequence[str]) -> Judgement:
    """The best name, parents left out, and the domain."""
    assert found.categories is not None
    best = next(each.name for each in found.categories if each.level is None)
    return {"category": best in names, "taken_for_a_photograph": found.domain == "photograph"}


def nearest_names(labels: Any, file: str, box: Sequence[float]) -> list[str]:
    """What the labelled box that overlaps most may be called."""
    boxes = next(each["boxes"] for each in labels if each["file"] == file)
    return list(max(boxes, key=lambda each: _overlap(each["box"], box))["accepted"])


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    inner = max(across, 0.0) * max(down, 0.0)
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (one, other)]
    return inner / (sum(areas) - inner)


def compared(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Per criterion both shares, and the paired difference with its standard error."""
    table = {}
    for name in sorted({name for pair in pairs for name in pair.plain}):
        both = np.array([(pair.plain[name], pair.highlighted[name]) for pair in pairs if name in pair.plain], float)
        difference = both[:, 1] - both[:, 0]
        table[name] = {
            "regions": len(both),
            "plain": round(float(both[:, 0].mean()), 4),
            "highlighted": round(float(both[:, 1].mean()), 4),
            "difference": round(float(difference.mean()), 4),
            "standard_error": round(float(difference.std() / np.sqrt(len(both))), 4),
        }
    return table


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=600, help="drawn regions at least [600]")
    asked = parser.parse_args()
    model = DynRefer.load("embedded", segmenter="none")
    photographs = dict(photograph_pairs(model))
    result = {
        **provenance(),
        "drawn": compared(list(drawn_pairs(model, World.load(), asked.regions))),
        "photographs": compared(list(photographs.values())),
        "photographs_one_by_one": {
            name: {"plain": pair.plain, "highlighted": pair.highlighted} for name, pair in photographs.items()
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

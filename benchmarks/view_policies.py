"""`python -m benchmarks.view_policies`: does a view policy of our own beat the paper's, where no task is given?

The paper picks the views with the best distance / t, each compared with t = 0 alone. Three cheap rules are compared
with it, on the same regions: "again" scores what is left again after each pick, by the least distance to all views
taken; "spread" does the same without the division by t; "area" asks no hash and takes the t at which a view's sides are
1.5 and 3 times the region's. On validation scenes the best of them is chosen, and on test scenes it alone is compared.
A rule wins if the mean difference per region of a metric is above two standard errors, and no metric's is below minus
two; and then on photographs too. Writes results/view_policies.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import DynRefer
from dynrefer.model.geometry import Box, integer_crops
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import load_model
from dynrefer.model.types import ALL_TASKS, Corners, RegionDescription, RegionQuery, Task
from dynrefer.model.views import STEPS, GreyImage, nested_views
from dynrefer.workbench.data.photographs import read_photographs
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import QueryResults, QuerySpec, RegionPredictor, Views, run_queries
from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores
from dynrefer.workbench.evaluation.policies import Policy, choose
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

HERE = Path(__file__).parent
RESULT = HERE / "results" / "view_policies.json"
PAPER = "image prior"
SIDES = (1.5, 3.0)  # of a view, in those of its region

Pixels = NDArray[np.uint8]


def again(predictor: RegionPredictor, image: Pixels, box: Corners, row: int) -> Views:
    """Greedy: the least distance to all views taken, divided by t."""
    return _greedy(image, box, predictor.card.num_views, lambda distances: distances.min(axis=0) / np.array(STEPS))


def spread(predictor: RegionPredictor, image: Pixels, box: Corners, row: int) -> Views:
    """Greedy: the least distance to all views taken."""
    return _greedy(image, box, predictor.card.num_views, lambda distances: distances.min(axis=0))


def area(predictor: RegionPredictor, image: Pixels, box: Corners, row: int) -> Views:
    """The t at which a view is nearest to so many times the region, by the mean of its sides' ratios."""
    grey = GreyImage(image)
    region, *views = (np.array(view.box) for view in nested_views(Box(*box).clip(grey.size), grey.size))
    sides = np.sqrt([_area(view) / _area(region) for view in views])
    picks: list[int] = []
    for wanted in SIDES[: predictor.card.num_views - 1]:
        order = np.abs(np.log(sides / wanted)).argsort(kind="stable").tolist()
        picks.append(next(place for place in order if place not in picks))
    return (0.0, *(STEPS[place] for place in picks))


def _area(box: NDArray[np.float64]) -> float:
    return max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-6)


def _greedy(image: Pixels, box: Corners, count: int, gains: Callable[[NDArray[np.int64]], NDArray[Any]]) -> Views:
    """gains: of distances (taken views, candidates) -> (candidates,)."""
    grey = GreyImage(image)
    views = nested_views(Box(*box).clip(grey.size), grey.size)
    bits = grey.hash_bits(integer_crops(np.array([view.box for view in views], dtype=np.float32), grey.size))
    between = (bits[:, None] != bits[None]).sum(axis=2)
    taken = [0]
    while len(taken) < count:
        left = np.array(gains(between[taken, 1:]), dtype=np.float64)
        left[[place - 1 for place in taken[1:]]] = -1.0
        taken.append(int(left.argmax()) + 1)
    return tuple(views[place].t for place in taken)


OURS = {"again": again, "spread": spread, "area": area}


def per_region(results: QueryResults, drawn: RegionSet, threshold: float) -> dict[str, NDArray[np.float64]]:
    """Metric -> its value for each region: category right, F1 of its tags, CIDEr-D of its caption."""
    right = results.scores[Task.CATEGORIES].argmax(axis=1) == drawn.categories
    said = results.scores[Task.TAGS] > threshold
    hits = (said & drawn.tags).sum(axis=1)
    f1 = 2 * hits / np.maximum(said.sum(axis=1) + drawn.tags.sum(axis=1), 1)
    cider = cider_scores(results.captions, [each.captions for each in drawn.objects])
    return {"class": right.astype(float), "tag_f1": f1, "cider": np.asarray(cider)}


def differences(ours: dict[str, NDArray[np.float64]], papers: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Metric -> the mean difference, ours minus the paper's, with its standard error; and whether ours wins."""
    found: dict[str, Any] = {}
    for name, values in ours.items():
        apart = values - papers[name]
        error = float(apart.std(ddof=1) / len(apart) ** 0.5)
        found[name] = {"paper": round(float(papers[name].mean()), 4), "difference": round(float(apart.mean()), 4)}
        found[name]["error"] = round(error, 4)
    beyond = [each["difference"] / max(each["error"], 1e-9) for each in found.values() if each["difference"]]
    return {**found, "wins": any(each > 2 for each in beyond) and not any(each < -2 for each in beyond)}


def on_scenes(model: DynRefer, names: Sequence[str], regions: int, validation: bool) -> dict[str, Any]:
    """Rule -> `differences`."""
    world, sprites = World.load(), SpritePack.load()
    drawn = RegionSet.draw(world, sprites, "test", scenes_seed=2, regions=regions, validation=validation)
    rules = [choose(Policy.IMAGE_PRIOR, model.card.num_views), *(OURS[name] for name in names)]
    specs = [QuerySpec(ALL_TASKS, rule) for rule in rules]
    found = run_queries(model, drawn, specs, "policies", readers=1)
    papers, *ours = (per_region(each, drawn, model.card.thresholds["tags"]) for each in found)
    return {name: differences(each, papers) for name, each in zip(names, ours, strict=True)}


def on_photographs(model: DynRefer, name: str) -> dict[str, Any]:
    """On how many boxes the answers with our rule's views say the same as with the paper's."""
    rows = {"boxes": 0, "same_caption": 0, "same_categories": 0, "same_tags": 0}
    for photograph in read_photographs(HERE / "photographs"):
        image = upright_pixels(photograph.path)
        boxes = [each.box for each in photograph.boxes]
        queries = [RegionQuery(box) for box in boxes]
        queries += [RegionQuery(box, views=OURS[name](model, image, box, 0)) for box in boxes]
        regions = model.prepare(image, queries)
        found = [model.finish(*pair) for pair in zip(regions, model.run(regions), strict=True)]
        for papers, own in zip(found[: len(boxes)], found[len(boxes) :], strict=True):
            rows["boxes"] += 1
            rows["same_caption"] += _text(papers) == _text(own)  # its score is the network's, and differs
            rows["same_categories"] += papers.categories == own.categories
            rows["same_tags"] += papers.tags == own.tags
    return rows


def _text(found: RegionDescription) -> str:
    return "" if found.caption is None else found.caption.text


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description="Compare view policies.")
    parser.add_argument("--regions", type=int, default=1000, help="of each set of drawn scenes [default: %(default)s]")
    parser.add_argument("--photographs", action="store_true", help="measure these anew, and keep the rest of the file")
    options = parser.parse_args()
    if options.photographs:
        report = json.loads(RESULT.read_text("utf-8"))
        report["photographs"] = on_photographs(DynRefer.load("embedded", device="cpu"), report["chosen"])
        RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return
    network = DynRefer(load_model("embedded", device="cpu", dtype="auto", evidence=False))
    validation = on_scenes(network, list(OURS), options.regions, validation=True)
    print("validation", json.dumps(validation), flush=True)
    best = max(OURS, key=lambda name: sum(each["difference"] for each in list(validation[name].values())[:-1]))
    test = on_scenes(network, [best], options.regions, validation=False)
    print("test", json.dumps(test), flush=True)
    photographs = on_photographs(DynRefer.load("embedded", device="cpu"), best)
    print("photographs", photographs, flush=True)
    report = {**provenance(), "regions": options.regions, "validation": validation, "chosen": best, "test": test}
    RESULT.write_text(json.dumps({**report, "photographs": photographs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

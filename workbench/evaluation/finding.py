"""How well a finder finds: drawn scenes of unseen seeds, with exact boxes and masks. `dynrefer evaluate --finder`.

Every scene is asked for all names of the world: at once, where an object is the best name's alone, and one by one, as
detectors are measured that give a box several names; for known names, and for names that the finder was not trained on.
Names that a scene does not show are asked apart. Shapes: H W = an image.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dynrefer.model.finding import AskedName, Candidates, Findings, FindQuery
from dynrefer.model.images import upright_pixels
from dynrefer.model.networks.finder.weights import CONFIG, FOLDER
from dynrefer.model.suppression import suppress
from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.evaluation.grounding_phrases import KINDS, referring_phrases
from dynrefer.workbench.evaluation.metrics.calibration import calibration_error
from dynrefer.workbench.evaluation.metrics.photograph_metrics import Ancestors
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, proportion
from dynrefer.workbench.evaluation.report.tables import json_metrics
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

if TYPE_CHECKING:
    from dynrefer.model import DynRefer

SCENES = 500
FIRST_SEED = 5_000_000_000  # no training or calibration draws scenes of such seeds
SEEDS = 1_000_000  # apart from one seed of an evaluation to the next
ABSENT_NAMES = 5  # are asked of every scene
HIERARCHY_SCENES = 100  # at most: every region of these is described
_LEAST, _MOST = 0.01, 100  # score and number of the regions of which precision and recall are made
_SAME = 0.7  # proposals that overlap by more are one
_RIGHT = 0.5  # least overlap of a region with its object


Floats = NDArray[np.float64]


@dataclass
class Boxes:
    """What COCO's evaluation compares. truth, found: its annotations and results. Ids count from 1."""

    images: list[dict[str, int]] = field(default_factory=list)
    truth: list[dict[str, Any]] = field(default_factory=list)
    found: list[dict[str, Any]] = field(default_factory=list)

    def add_truth(self, image: int, category: int, box: Sequence[float], **more: Any) -> None:
        """An object; box xyxy. more: what else its annotation holds."""
        xywh = _xywh(box)
        self.truth.append(
            {
                "id": len(self.truth) + 1,  # 0 means "not matched" to COCO's evaluation
                "image_id": image,
                "category_id": category,
                "bbox": xywh,
                "area": xywh[2] * xywh[3],
                "iscrowd": 0,
                **more,
            }
        )

    def add_found(self, image: int, category: int, box: Sequence[float], score: float, **more: Any) -> None:
        """A region; box xyxy."""
        self.found.append({"image_id": image, "category_id": category, "bbox": _xywh(box), "score": score, **more})

    def curves(self, categories: Sequence[int], kind: str) -> tuple[Floats, Floats]:
        """(overlaps, recalls, K) precision with 100 regions an image, (overlaps, K) recall with ten; -1: no truth."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
            coco = COCO()
            coco.dataset = {
                "info": {},
                "images": self.images,
                "annotations": self.truth,
                "categories": [{"id": each} for each in categories],
            }
            coco.createIndex()
            wanted = set(categories)
            found = [each for each in self.found if each["category_id"] in wanted]
            measured = COCOeval(coco, coco.loadRes(found), kind)
            measured.params.catIds = list(categories)
            measured.params.areaRng, measured.params.areaRngLbl = measured.params.areaRng[:1], ["all"]
            measured.evaluate()
            measured.accumulate()
        return measured.eval["precision"][:, :, :, 0, 2], measured.eval["recall"][:, :, 0, 1]

    def average(self, categories: Sequence[int], kind: str = "bbox") -> dict[str, float | None]:
        """AP, AP50 and AR@10 over the categories that occur; AR10_50: recall with ten regions at an overlap of .5."""
        if not any(each["category_id"] in set(categories) for each in self.found):
            return {"AP": 0.0, "AP50": 0.0, "AR10": 0.0, "AR10_50": 0.0}
        precision, recall = self.curves(categories, kind)
        return {"AP": _mean(precision), "AP50": _mean(precision[0]), "AR10": _mean(recall), "AR10_50": _mean(recall[0])}


def scenes_of(world: World, sprites: SpritePack, seed: int, count: int) -> Iterator[Scene]:
    """The scenes of an evaluation."""
    for place in range(count):
        yield draw_scene(world, sprites, FIRST_SEED + seed * SEEDS + place, "test")


def measure_finder(
    finder: DynRefer,
    *,
    world: World,
    held_out: Sequence[str],
    ancestors: Ancestors,
    seed: int = 0,
    scenes: int = SCENES,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Every metric, JSON-ready: proportions in [0, 1]. held_out: names that the finder was not trained on."""
    began = time.perf_counter()
    sprites = SpritePack.load()
    names = [category.name for category in world.categories]
    place = {name: index + 1 for index, name in enumerate(names)}
    boxes, alone, proposed = Boxes(), Boxes(), Boxes()
    rng = np.random.default_rng((seed, 17))
    absent_hits: list[bool] = []
    absent_images: list[bool] = []
    presence: list[tuple[float, bool]] = []
    probabilities: list[tuple[float, bool]] = []
    grounded: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    levels: dict[str, list[bool]] = {"category": [], "parent": [], "phrase": []}
    milliseconds = []
    for number, scene in enumerate(scenes_of(world, sprites, seed, scenes), 1):
        _add_truth(boxes, proposed, scene, number, place)
        findings = finder.detect(scene.image, names, threshold=_LEAST, max_regions=_MOST, masks=True)
        _add_found(boxes, findings, number, place)
        probabilities += _judged(findings, scene)
        candidates, spent = _searched(finder, scene, names)
        milliseconds.append(spent)
        _add_proposals(proposed, candidates, number)
        _add_each_alone(alone, finder, candidates, scene, number, place)
        shown = [each.category for each in scene.objects]
        others = [name for name in names if name not in shown]
        asked = [others[index] for index in rng.choice(len(others), ABSENT_NAMES, replace=False)]
        answer = finder.detect(scene.image, asked)
        hits = {region.label for region in answer.regions}
        absent_hits += [name in hits for name in asked]
        absent_images.append(bool(hits))
        presence += _presence(finder.detect(scene.image, [*asked, *shown[:ABSENT_NAMES]]), asked, shown[:ABSENT_NAMES])
        for phrase in referring_phrases(scene, world):
            regions = finder.detect(scene.image, phrase=phrase.text, threshold=0.0).regions
            own = [region for region in regions if region.span is not None and region.span[0] == 0]
            right = bool(own) and _overlap(own[0].box, scene.objects[phrase.target].box) >= _RIGHT
            grounded[phrase.kind].append(right)
        if number <= HIERARCHY_SCENES:
            _add_levels(levels, finder.detect(scene.image), scene, ancestors)
        if number % 20 == 0:
            progress(f"{number} of {scenes} scenes")
    alone.images, alone.truth = boxes.images, boxes.truth
    known = [place[name] for name in names if name not in held_out]
    metrics: dict[str, Estimate] = {
        "absent_names_with_a_box": _share(absent_hits),
        "images_with_a_box_of_an_absent_name": _share(absent_images),
        "grounding": _share([right for rights in grounded.values() for right in rights]),
        **{f"grounding_{kind}": _share(rights) for kind, rights in grounded.items()},
        **{f"hierarchy_{level}": _share(rights) for level, rights in levels.items()},
    }
    return {
        "known": _rounded(boxes.average(known)),
        "held_out": _rounded(boxes.average([place[name] for name in held_out])) if held_out else None,
        "known_one_by_one": _rounded(alone.average(known)),
        "held_out_one_by_one": _rounded(alone.average([place[name] for name in held_out])) if held_out else None,
        "masks": _rounded(boxes.average(known, "segm")),
        "proposals": _rounded(proposed.average([1])),
        **json_metrics(metrics),
        "presence_calibration_error": _calibration(presence),
        "region_calibration_error": _calibration(probabilities),
        "core_ms_per_image": round(float(np.median(milliseconds)), 1),
        "scenes": scenes,
        "objects": len(boxes.truth),
        "phrases": sum(map(len, grounded.values())),
        "seed": seed,
        "world_digest": world.digest,
        "seconds": round(time.perf_counter() - began, 1),
    }


def untrained_names(directory: Path) -> tuple[str, ...]:
    """The world's names that the finder in a model directory was not trained on; none where it has no finder."""
    path = directory / FOLDER / CONFIG
    if not path.is_file():
        return ()
    trained = set(json.loads(path.read_text("utf-8"))["names"])
    return tuple(each.name for each in World.load().categories if each.name not in trained)


def measure_found_data(
    finder: DynRefer, data: LabelledData, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """The same of labelled images: AP, AP50 and AR@10 over the categories that occur, all of which are asked of every
    image; crowds count neither way."""
    began = time.perf_counter()
    names = list(data.categories)
    boxes = Boxes()
    places = {name: place for place, name in enumerate(names, 1)}
    for number, (image, regions) in enumerate(data.by_image.items(), 1):
        pixels = upright_pixels(data.images[image])
        boxes.images.append({"id": number, "width": pixels.shape[1], "height": pixels.shape[0]})
        for region in regions:
            boxes.add_truth(number, places[region.category or ""], region.box, iscrowd=int(region.crowd))
        _add_found(boxes, finder.detect(pixels, names, threshold=_LEAST, max_regions=_MOST), number, places)
        if number % 20 == 0:
            progress(f"{number} of {len(data.by_image)} images")
    occurring = sorted({each["category_id"] for each in boxes.truth if not each["iscrowd"]})
    by_name = {names[each - 1]: boxes.average([each])["AP50"] for each in occurring}
    return {
        **_rounded(boxes.average(occurring)),
        "AP50_by_name": _rounded(by_name),
        "images": len(boxes.images),
        "objects": sum(not each["iscrowd"] for each in boxes.truth),
        "seconds": round(time.perf_counter() - began, 1),
    }


def _searched(finder: DynRefer, scene: Scene, names: Sequence[str]) -> tuple[Candidates, float]:
    """The candidates of a scene, and the processor's milliseconds that preparing it and searching it for names took."""
    assert finder.finding is not None
    query = FindQuery(tuple(map(AskedName, names)))
    began = time.process_time()
    (candidates,) = finder.find(list(finder.finding.prepare_each(scene.image, [query])))
    return candidates, (time.process_time() - began) * 1e3


def _add_truth(boxes: Boxes, proposed: Boxes, scene: Scene, image: int, place: Mapping[str, int]) -> None:
    height, width = scene.image.shape[:2]
    for listed in (boxes, proposed):
        listed.images.append({"id": image, "width": width, "height": height})
    for index, each in enumerate(scene.objects):
        mask = _run_lengths(scene.visible(index))
        boxes.add_truth(image, place[each.category], each.box, segmentation=mask)
        proposed.add_truth(image, 1, each.box)


def _add_found(boxes: Boxes, findings: Findings, image: int, place: Mapping[str, int]) -> None:
    for region in findings.regions:
        mask = None if region.mask is None else {"size": list(region.mask.size), "counts": region.mask.counts}
        more = {} if mask is None else {"segmentation": mask}
        boxes.add_found(image, place[region.label], region.box, region.score, **more)


def _add_each_alone(
    boxes: Boxes, finder: DynRefer, found: Candidates, scene: Scene, image: int, place: Mapping[str, int]
) -> None:
    """What each name has by itself, as if it were asked alone: no other name takes its objects."""
    size = scene.image.shape[1], scene.image.shape[0]
    for name, category in place.items():
        query = FindQuery((AskedName(name),), threshold=_LEAST, max_regions=_MOST)
        for region in finder.findings(query, found, (), size).regions:
            boxes.add_found(image, category, region.box, region.score)


def _add_proposals(proposed: Boxes, found: Candidates, image: int) -> None:
    for index in suppress(found.boxes, found.objectness, _SAME).tolist():
        proposed.add_found(image, 1, found.boxes[index].tolist(), float(found.objectness[index]))


def _judged(findings: Findings, scene: Scene) -> list[tuple[float, bool]]:
    """The probability of each region, and whether it is right: the best region of an object that its name fits."""
    left = list(scene.objects)
    judged = []
    for region in findings.regions:
        right = next((o for o in left if o.category == region.label and _overlap(region.box, o.box) >= _RIGHT), None)
        if right is not None:
            left.remove(right)
        judged.append((region.probability, right is not None))
    return judged


def _presence(findings: Findings, asked: Sequence[str], shown: Sequence[str]) -> list[tuple[float, bool]]:
    """Of each name the probability that it is there, and whether it is."""
    said = {each.name: each.probability for each in findings.absent}
    for region in reversed(findings.regions):
        said[region.label] = region.probability
    return [(said[name], name in shown) for name in (*asked, *shown) if name in said]


def _add_levels(levels: dict[str, list[bool]], findings: Findings, scene: Scene, ancestors: Ancestors) -> None:
    """Right at each level, of the regions that are an object's: the category; a parent that is above the true one; a
    phrase that says the true category and, where the colour is known, the colour."""
    for region in findings.regions:
        true = next((each for each in scene.objects if _overlap(region.box, each.box) >= _RIGHT), None)
        if true is None:
            continue
        levels["category"].append(region.category == true.category)
        if region.parent is not None:
            levels["parent"].append(region.parent in ancestors(true.category))
        colour, phrase = true.attributes.get("color"), region.phrase or ""
        levels["phrase"].append(true.category in phrase and (colour is None or colour in phrase))


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (one, other))
    return across * down / (areas - across * down)


def _run_lengths(visible: NDArray[np.bool_]) -> dict[str, Any]:
    found = coco_masks.encode(np.asfortranarray(visible.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def _mean(values: NDArray[np.float64]) -> float | None:
    measured = values[values >= 0]
    return float(measured.mean()) if len(measured) else None


def _share(rights: Sequence[bool]) -> Estimate:
    return proportion(np.array(rights)) if rights else Estimate()


def _calibration(judged: Sequence[tuple[float, bool]]) -> float | None:
    if not judged:
        return None
    said, right = (np.array(column) for column in zip(*judged, strict=True))
    error = calibration_error(said.astype(np.float64), right.astype(bool))
    return None if error is None else round(error, 4)


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def to_standard_error(line: str) -> None:
    """Progress, for a person."""
    print(line, file=sys.stderr, flush=True)

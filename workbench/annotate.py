"""`dynrefer annotate-data`: finder and describer label a folder of images into a file that training reads.

Each image gets boxes with categories, as COCO writes them, and what DetCLIPv3's labels hold beside them: the phrase,
the parent, the confidence, and the caption. Kept are regions about which finder and describer agree, which are found in
the mirrored image too, and which are likely enough; how many each filter took away is counted. Source: the data engine
of DetCLIPv3 (Yao et al., 2024, section 3.2), with our models in the place of theirs.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynrefer.model.errors import ImageError
from dynrefer.model.suppression import overlaps
from dynrefer.workbench.data.atomic import replace_text

if TYPE_CHECKING:
    from dynrefer.model import DynRefer
    from dynrefer.model.finding import FoundRegion
    from dynrefer.model.images import Pixels

ANNOTATIONS, DONE = "annotations.json", "done.jsonl"
_SAME = 0.6  # overlap of a box with that of the mirrored image


@dataclass(frozen=True)
class Filters:
    """least: probability that a region is an object, and that its category is right. mirrored: whether a region has to
    be found in the mirrored image too."""

    least: float = 0.5
    mirrored: bool = True


def annotate(
    model: DynRefer, files: list[Path], root: Path, out: Path, filters: Filters, max_regions: int = 50
) -> dict[str, int]:
    """Write OUT/annotations.json; returns how many images and regions there are, and what the filters took away.

    Images that are done stand in OUT/done.jsonl, one line each, and are not looked at again; those that cannot be read
    are counted and left out.
    """
    records = {record["file_name"]: record for record in _done(out / DONE)}
    with (out / DONE).open("a", encoding="utf-8") as done:
        for place, file in enumerate(files, 1):
            name = file.relative_to(root).as_posix()
            if name in records:
                continue
            records[name] = _record(model, file, name, filters, max_regions)
            done.write(json.dumps(records[name]) + "\n")
            done.flush()
            if place % 20 == 0:
                print(f"{place} of {len(files)} images", file=sys.stderr, flush=True)
    wanted = [records[file.relative_to(root).as_posix()] for file in files]
    document, counts = _document(wanted)
    replace_text(out / ANNOTATIONS, json.dumps(document, indent=1) + "\n")
    return counts


def _done(path: Path) -> Iterator[dict[str, Any]]:
    """The records of images that are done; a last line that was cut short by an interruption is none."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        yield record


def _record(model: DynRefer, file: Path, name: str, filters: Filters, max_regions: int) -> dict[str, Any]:
    from dynrefer.model.images import upright_pixels

    try:
        pixels = upright_pixels(file)
    except (ImageError, OSError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        return {"file_name": name, "error": str(error)}
    regions, dropped = _regions(model, pixels, filters, max_regions)
    height, width = pixels.shape[:2]
    return {"file_name": name, "width": width, "height": height, "regions": regions, "dropped": dropped}


def _regions(
    model: DynRefer, pixels: Pixels, filters: Filters, max_regions: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """What is kept of an image, and how many regions each filter took away."""
    found = model.detect(pixels, max_regions=max_regions).regions
    dropped: Counter[str] = Counter()
    likely = [each for each in found if each.probability >= filters.least]
    dropped["unlikely"] = len(found) - len(likely)
    sure = [each for each in likely if each.label == each.category and _sure(each) >= filters.least]
    dropped["unsure_name"] = len(likely) - len(sure)
    names = sorted({each.category for each in sure if each.category})
    named = model.detect(pixels, names, max_regions=4 * max_regions).regions if names else ()
    agreed = [each for each in sure if _is_among(each, [o for o in named if o.label == each.category])]
    dropped["finder_disagrees"] = len(sure) - len(agreed)
    if filters.mirrored and agreed:
        mirror = model.detect(np.ascontiguousarray(pixels[:, ::-1]), names, max_regions=4 * max_regions).regions
        width = float(pixels.shape[1])
        boxes = [(o.label, (width - o.box[2], o.box[1], width - o.box[0], o.box[3])) for o in mirror]
        kept = [e for e in agreed if _overlaps_any(e.box, [box for label, box in boxes if label == e.category])]
        dropped["not_in_the_mirror"] = len(agreed) - len(kept)
        agreed = kept
    return [_annotation(each) for each in agreed], dict(dropped)


def _sure(region: FoundRegion) -> float:
    """The probability of the category, by the describer."""
    labels = (region.description.categories or ()) if region.description else ()
    return next((label.probability for label in labels if label.name == region.category), 0.0)


def _is_among(region: FoundRegion, others: list[FoundRegion]) -> bool:
    return _overlaps_any(region.box, [each.box for each in others])


def _overlaps_any(box: tuple[float, float, float, float], others: list[tuple[float, float, float, float]]) -> bool:
    if not others:
        return False
    return bool(overlaps(np.array([box], np.float32), np.array(others, np.float32)).max() >= _SAME)


def _annotation(region: FoundRegion) -> dict[str, Any]:
    x1, y1, x2, y2 = region.box
    caption = region.description.caption.text if region.description and region.description.caption else None
    return {
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "category": region.category,
        "phrase": region.phrase,
        "parent": region.parent,
        "score": region.probability,
        "caption": caption,
    }


def _document(records: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, int]]:
    """COCO's form: images, annotations, categories; and the counts."""
    counts: Counter[str] = Counter({"images": 0, "unreadable": 0, "regions": 0})
    categories = sorted({region["category"] for record in records for region in record.get("regions", ())})
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for place, record in enumerate(records, 1):
        if "error" in record:
            counts["unreadable"] += 1
            continue
        counts["images"] += 1
        counts.update(record["dropped"])
        images.append({"id": place, **{key: record[key] for key in ("file_name", "width", "height")}})
        for region in record["regions"]:
            x, y, width, height = region["bbox"]
            more = {key: value for key, value in region.items() if key != "category" and value is not None}
            own = {
                "id": len(annotations) + 1,
                "image_id": place,
                "category_id": categories.index(region["category"]) + 1,
            }
            annotations.append({**own, "area": round(width * height, 2), "iscrowd": 0, **more})
    counts["regions"] = len(annotations)
    listed = [{"id": place, "name": name} for place, name in enumerate(categories, 1)]
    return {"images": images, "annotations": annotations, "categories": listed}, dict(counts)

"""Runs in an environment of its own, with datumaro and datasets and without ours: reads what a batch run wrote, and
prints it as JSON.

    python read_by_others.py FOLDER

FOLDER holds `coco/`, `out.yolo`, `out.voc` and `hf/`. Of each reader: image -> its regions as [name, [x, y, width,
height], what else is said].
"""

import importlib  # neither package is one of ours
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
Read = dict[str, list[list[Any]]]


def by_datumaro(path: Path, kind: str) -> Read:
    """With a data set's own importer."""
    datumaro = importlib.import_module("datumaro")
    data = datumaro.Dataset.import_from(str(path), kind)
    names = [each.name for each in data.categories().get(datumaro.AnnotationType.label, [])]
    found: Read = {}
    for item in data:
        regions = found.setdefault(item.id, [])
        for each in item.annotations:
            if each.type is datumaro.AnnotationType.caption:
                regions.append([None, None, {"caption": each.caption}])
            else:
                box = [round(float(value), 2) for value in each.get_bbox()]
                regions.append([names[each.label], box, {key: str(value) for key, value in each.attributes.items()}])
    return found


def by_datasets(folder: Path, cache: Path) -> Read:
    """With Hugging Face's image folder."""
    found: Read = {}
    datasets = importlib.import_module("datasets")
    for row in datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(cache)):
        objects = row["objects"]
        size = [row["image"].width, row["image"].height]
        assert size == [row["width"], row["height"]]
        more = [{"caption": caption} for caption in objects["caption"]]
        regions = zip(objects["category"], objects["bbox"], more, strict=True)
        found[str(len(found))] = [list(each) for each in regions]
    return found


def main() -> None:
    logging.disable(logging.WARNING)
    folder = Path(sys.argv[1])
    read = {
        "coco_instances": by_datumaro(folder / "coco", "coco_instances"),
        "coco_captions": by_datumaro(folder / "coco", "coco_captions"),
        "yolo": by_datumaro(folder / "out.yolo", "yolo"),
        "voc": by_datumaro(folder / "out.voc", "voc_detection"),
        "hf": by_datasets(folder / "hf", folder / "cache"),
    }
    print("\n" + json.dumps(read))


if __name__ == "__main__":
    main()

"""A COCO-style data set of drawn scenes: PNG files and an annotation file with their complete ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World


def draw_regions(world: World, regions: int = 30) -> RegionSet:
    """Draw scenes; the `oracle` fixture, if used, learns their ground truth."""
    return RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=6, regions=regions)


def coco_file(drawn: RegionSet, folder: Path) -> Path:
    """Write the images and data.json, in plain COCO's layout; every third attribute is "head", "medium", "tail"."""
    world = drawn.world
    ids = {category.name: place for place, category in enumerate(world.categories, 1)}
    images, annotations = [], []
    for number, scene in enumerate(drawn.scenes, 1):
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        for obj in scene.objects:
            x1, y1, x2, y2 = obj.box
            annotations.append(
                {
                    "id": 100 + len(annotations),
                    "image_id": number,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "caption": list(obj.captions),
                    "category_id": ids[obj.category],
                    "att_vec": world.attribute_targets(obj).tolist(),
                }
            )
    data: dict[str, Any] = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for name, place in ids.items()],
        "attrs": [
            {"id": place, "name": attribute.name, "freq_set": ("head", "medium", "tail")[place % 3]}
            for place, attribute in enumerate(world.attributes)
        ],
    }
    path = folder / "data.json"
    path.write_text(json.dumps(data))
    return path

"""The same scene in a larger image: what was drawn keeps its pixels, and becomes small beside the whole.

A view of the whole image at one low resolution then shows less of each object than tiles of the image do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from dynrefer.workbench.scenes.backgrounds import draw_background
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.scenes.scene import Scene

# What stays true of it, and what it stays possible to see. A size is one beside the image, so it is not asked for.
KINDS = (Kind.NAME, Kind.COLOUR, Kind.SEVERAL, Kind.COUNT, Kind.EXISTENCE, Kind.WHERE, Kind.LISTING, Kind.RELATION)


def spread(scene: Scene, factor: int, random: np.random.Generator) -> Scene:
    """The scene's objects, at the same places beside each other, in an image of `factor` times its width and height
    with a background of the same kind, enlarged. Raises ValueError for a scene in front of a photograph."""
    if scene.scene is None:
        raise ValueError("a scene in front of a photograph cannot be spread: there is no more of the photograph.")
    height, width = scene.image.shape[:2]
    drawn = Image.fromarray(draw_background(scene.scene, width, height, random))
    image = np.array(drawn.resize((factor * width, factor * height), Image.Resampling.BILINEAR))
    x, y = (int(random.integers((factor - 1) * side + 1)) for side in (width, height))
    owner = np.full(image.shape[:2], -1, dtype=scene.owner.dtype)
    owner[y : y + height, x : x + width] = scene.owner
    image[owner >= 0] = scene.image[scene.owner >= 0]
    objects = tuple(
        replace(
            each,
            box=(each.box[0] + x, each.box[1] + y, each.box[2] + x, each.box[3] + y),
            attributes={name: value for name, value in each.attributes.items() if name != "size"},
        )
        for each in scene.objects
    )
    return replace(scene, image=image, objects=objects, owner=owner)

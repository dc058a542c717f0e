"""The picture of docs/requests.md: one object of a drawn scene, pointed at in every way, and what the model says of it.

    python -m benchmarks.prompt_picture [--seed 11] [--object 2]

The mask is the exact one; polygon and scribble are made from it, as a person would draw them. Writes
docs/images/prompts.jpg, and prints the answers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model import DynRefer
from dynrefer.model.crops import highlighted
from dynrefer.model.drawing import draw_shape
from dynrefer.model.drawing.overlay import Overlay
from dynrefer.model.drawing.palette import COLOURS, INK, PAPER
from dynrefer.model.drawing.regions import Proportions, draw_box, scaled
from dynrefer.model.drawing.typesetting import Type
from dynrefer.model.masks import box_from_mask, mask_from_bitmap
from dynrefer.model.prompts import Polygon, Prompt, Scribble
from dynrefer.model.types import PointPrompt, RegionDescription
from dynrefer.workbench.profiling.machine import ROOT
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World

PICTURE = ROOT / "docs" / "images" / "prompts.jpg"
SIDE, GAP, TEXT, COLUMNS = 400, 18, 18, 3  # pixels; tiles in a row
COLOUR = COLOURS[0]
CORNERS, ROWS = 14, 6  # of the polygon; turns of the scribble
POINTS = 3

Bitmap = NDArray[np.bool_]


def outline(bitmap: Bitmap) -> Polygon:
    """The farthest pixels of the mask from its middle, in some directions; it cannot cross itself."""
    ys, xs = np.nonzero(bitmap)
    x, y = float(np.median(xs)), float(np.median(ys))
    angles, distances = np.arctan2(ys - y, xs - x), np.hypot(xs - x, ys - y)
    ring: list[float] = []
    for part in range(CORNERS):
        middle = -math.pi + 2 * math.pi * part / CORNERS
        turned = np.abs((angles - middle + math.pi) % (2 * math.pi) - math.pi)
        far = float(distances[turned < math.pi / CORNERS].max(initial=1.0))
        ring += [x + far * math.cos(middle), y + far * math.sin(middle)]
    return Polygon((tuple(ring),))


def zigzag(bitmap: Bitmap) -> Scribble:
    """From side to side of the mask, downwards."""
    rows = np.flatnonzero(bitmap.any(axis=1))
    line: list[float] = []
    for turn, row in enumerate(np.linspace(rows[0], rows[-1], ROWS).round().astype(int)):
        columns = np.flatnonzero(bitmap[row])
        line += [float(columns[-1 if turn % 2 else 0]), float(row)]
    return Scribble((tuple(line),))


def clicks(bitmap: Bitmap) -> list[PointPrompt]:
    """On the mask, at equal parts of its pixels from top to bottom."""
    ys, xs = np.nonzero(bitmap)
    places = [len(ys) * (2 * part + 1) // (2 * POINTS) for part in range(POINTS)]
    return [PointPrompt(float(np.median(xs[ys == ys[at]])), float(ys[at])) for at in places]


def tile(
    image: NDArray[np.uint8],
    title: str,
    found: RegionDescription,
    shape: Prompt | None,
    points: Sequence[PointPrompt] = (),
) -> Image.Image:
    """The image with the prompt, and below it the title and the caption."""
    height, width = image.shape[:2]
    factor = SIDE / width
    drawn = Image.fromarray(image).resize((SIDE, round(height * factor)), Image.Resampling.LANCZOS)
    overlay = Overlay()
    if shape is None:
        draw_box(overlay, scaled(found.box, (factor, factor), drawn.size), 0, Proportions.of(drawn.size).line)
    else:
        draw_shape(drawn, shape, (factor, factor))
    for point in points:
        x, y = point.x * factor, point.y * factor
        for radius, colour in ((8, PAPER), (6, COLOUR)):
            overlay.plate((x - radius, y - radius, x + radius, y + radius), colour, radius)
    overlay.onto(drawn)
    assert found.caption is not None
    kind = Type(TEXT)
    lines = [title, *kind.wrapped(found.caption.text, SIDE, 2)]
    canvas = Image.new("RGB", (SIDE, drawn.height + 3 * kind.line_height + GAP), PAPER)
    canvas.paste(drawn)
    for row, line in enumerate(lines):
        kind.draw(canvas, (0, drawn.height + GAP // 2 + row * kind.line_height), line, INK if row else COLOUR)
    return canvas


def sheet(tiles: Sequence[Image.Image]) -> Image.Image:
    """The tiles in rows."""
    width, height = (max(getattr(each, side) for each in tiles) + GAP for side in ("width", "height"))
    rows = -(-len(tiles) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * width + GAP, rows * height + GAP), PAPER)
    for place, each in enumerate(tiles):
        canvas.paste(each, (GAP + place % COLUMNS * width, GAP + place // COLUMNS * height))
    return canvas


def main() -> None:
    """Draw, describe, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=11, help="of the scene")
    parser.add_argument("--object", type=int, default=2, help="which object of the scene")
    parser.add_argument("--output", type=Path, default=PICTURE)
    asked = parser.parse_args()
    scene = draw_scene(World.load(), SpritePack.load(), asked.seed, "test")
    image, bitmap = scene.image, scene.visible(asked.object)
    mask, polygon, scribble, points = mask_from_bitmap(bitmap), outline(bitmap), zigzag(bitmap), clicks(bitmap)
    model = DynRefer.load("embedded")
    box = box_from_mask(mask)
    boxed, drawn, masked, scribbled = model.describe(image, [box, polygon, mask, scribble], "caption")
    (shown,) = model.describe(image, [mask], "caption", highlight=True)
    tiles = [
        tile(image, "box", boxed, None),
        tile(image, "polygon", drawn, polygon),
        tile(image, "mask", masked, mask),
        tile(image, "scribble", scribbled, scribble),
    ]
    if model.segmentation is not None:
        (pointed,) = model.describe(image, (), "caption", points=[points])
        tiles.append(tile(image, "points, and the mask that was found", pointed, pointed.mask, points))
    tiles.append(tile(highlighted(image, bitmap), "mask with highlight", shown, None))
    for found in (boxed, drawn, masked, scribbled, shown):
        print(found.box, found.caption and found.caption.text)
    sheet(tiles).save(asked.output, quality=82, optimize=True)


if __name__ == "__main__":
    main()

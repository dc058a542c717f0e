"""Statistics of the drawn scenes, and a contact sheet of them.

python -m dynrefer.workbench.scenes.scene_report --report 500 [--split train]
python -m dynrefer.workbench.scenes.scene_report --sheet out.png [--seed N]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from dynrefer.workbench.scenes.artwork import SpritePack, art_folder, unseen_style_sprites
from dynrefer.workbench.scenes.scene import SPLITS, Scene, Split, draw_scene
from dynrefer.workbench.scenes.world import World


def report(scenes: Sequence[Scene], milliseconds: float) -> str:
    """The distribution of `scenes` as text. milliseconds: mean time to draw one."""
    objects = [obj for scene in scenes for obj in scene.objects]
    lines = [f"{len(scenes)} scenes, {len(objects)} regions, {milliseconds:.2f} ms per scene"]
    lines.append(_proportions("objects per scene", Counter(str(len(scene.objects)) for scene in scenes)))
    lines.append(_proportions("relation", Counter(obj.relation for obj in objects)))
    lines.append(_proportions("scene", Counter(scene.scene or "photograph" for scene in scenes)))
    for kind in ("color", "size", "pose", "tone", "pattern", "optical"):
        lines.append(_proportions(kind, Counter(obj.attributes.get(kind, "unknown") for obj in objects)))
    lines.append(_proportions("words per caption", Counter(str(len(obj.captions[0].split())) for obj in objects)))
    categories = Counter(obj.category for obj in objects)
    lines.append(f"categories seen: {len(categories)}; rarest: {categories.most_common()[-1]}")
    return "\n".join(lines)


def _proportions(title: str, counts: Counter[str]) -> str:
    total = counts.total()
    return f"{title}: " + ", ".join(f"{name} {number / total:.3f}" for name, number in sorted(counts.items()))


def sheet(scenes: Sequence[Scene], columns: int = 3, scale: int = 2) -> Image.Image:
    """The scenes side by side, enlarged, with numbered boxes and the first caption of every object below."""
    wide, tall = 320 * scale + 20, 320 * scale + 130
    rows = -(-len(scenes) // columns)
    canvas = Image.new("RGB", (columns * wide, rows * tall), "white")
    draw = ImageDraw.Draw(canvas)
    for number, scene in enumerate(scenes):
        x, y = number % columns * wide, number // columns * tall
        height, width = scene.image.shape[:2]
        canvas.paste(Image.fromarray(scene.image).resize((width * scale, height * scale)), (x, y))
        for index, obj in enumerate(scene.objects):
            box = tuple(int(edge * scale) for edge in obj.box)
            draw.rectangle((x + box[0], y + box[1], x + box[2], y + box[3]), outline="red")
            draw.text((x + box[0] + 2, y + box[1]), str(index), fill="red")
            words = f"{index} {obj.captions[index % len(obj.captions)]}  [{obj.attributes.get('tone', '?')}]"
            draw.text((x, y + height * scale + 3 + 14 * index), words, fill="black")
    return canvas


def main() -> None:
    """The command; see the head of this file."""
    parser = argparse.ArgumentParser(description="Report on the drawn scenes, or draw a sheet of them.")
    parser.add_argument("--report", type=int, default=0, metavar="SCENES")
    parser.add_argument("--sheet", type=Path, metavar="PNG")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--cache", type=Path, default=art_folder())
    options = parser.parse_args()
    split: Split = options.split
    world = World.load()
    sprites = unseen_style_sprites(world, options.cache) if split == "unseen_style" else SpritePack.load()
    if sprites is None:
        parser.error(f"the evaluation-only style is not installed below {options.cache}")
    if options.report:
        for seed in range(20):
            draw_scene(world, sprites, seed, split)  # the caches fill before the clock starts
        start = time.perf_counter()
        scenes = [draw_scene(world, sprites, options.seed + i, split) for i in range(options.report)]
        print(report(scenes, (time.perf_counter() - start) / options.report * 1000))
        print(f"world {world.digest}")
    if options.sheet:
        sheet([draw_scene(world, sprites, options.seed + i, split) for i in range(9)]).save(options.sheet)


if __name__ == "__main__":
    main()

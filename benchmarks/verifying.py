"""How often the region model agrees with a box that holds what is said, and with one that holds something else.

    python -m benchmarks.verifying [--scenes 30] [--seed 1]

On drawn scenes, with the embedded model: each object under its own name, and under the name of the object before it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

from dynrefer import DynRefer
from dynrefer.model import GroundedSpan, Reply, queries_to_verify, with_verdicts
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

SEEDS = 1_000_000  # scenes between two seeds of this command, none of which are trained on


def said_of(model: DynRefer, scene: Scene, names: list[str]) -> list[str]:
    """What is said of each object's box under these names: true, false or none."""
    spans, content = [], ""
    for name, each in zip(names, scene.objects, strict=True):
        spans.append(GroundedSpan((len(content), len(content) + len(name)), each.box))
        content += f"{name}. "
    reply = Reply(content, tuple(spans))
    regions = model.prepare(scene.image, queries_to_verify(reply))
    described = [model.finish(region, output) for region, output in zip(regions, model.run(regions), strict=True)]
    return [str(span.verified).lower() for span in with_verdicts(reply, described).grounding]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model = DynRefer.load("embedded", device="cpu", segmenter="none", finder="none", converser="none")
    world, sprites = World.load(), SpritePack.load()
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for place in range(options.scenes):
        scene = draw_scene(world, sprites, SEEDS * (1 + options.seed) + place, "test")
        names = [each.category for each in scene.objects]
        turned = [names[-1], *names[:-1]]
        right.update(said_of(model, scene, names))
        found = zip(said_of(model, scene, turned), names, turned, strict=True)
        wrong.update(verdict for verdict, name, other in found if name != other)
    print(json.dumps({"right": dict(right), "wrong": dict(wrong)}))


if __name__ == "__main__":
    main()

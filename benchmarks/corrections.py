"""`python -m benchmarks.corrections`: what training from corrections does to the embedded model, on drawn scenes.

Two reproducible stories. "artwork": the scenes show artwork that the model never saw, of categories that it knows, and
every object is corrected to what it is; the decoders are tuned. "wording": captions are corrected to a house style
that leaves out the relation to the neighbour; LoRA on the language model is tuned. Each writes a folder of
corrections, runs `dynrefer train --from-corrections` on it with its defaults, and keeps what the comparison says: on
held-out corrections, and on the drawn benchmark. Writes results/corrections.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.data.corrections import FILE, IMAGES
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, SceneObject, Split, draw_scene
from dynrefer.workbench.scenes.scene_captions import short_caption, spoken_adjectives
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.corrections.run import COMPARISON, CorrectionRun
from dynrefer.workbench.training.corrections.settings import CorrectionSettings

RESULT = Path(__file__).parent / "results" / "corrections.json"
FIRST_SCENE = 6_500_000_000  # no other seed of training or measurement is near it
SCENES = 120

Said = Callable[[World, SceneObject], Mapping[str, Any]]


def whole_truth(world: World, each: SceneObject) -> Mapping[str, Any]:
    """What somebody says who corrects all labels."""
    names = {attribute.name for attribute in world.attributes}
    said = [f"{kind}:{value}" for kind, value in each.attributes.items()]
    return {"category": each.category, "tags": list(each.tags), "attributes": [x for x in said if x in names]}


def house_style(world: World, each: SceneObject) -> Mapping[str, Any]:
    """A caption in the house's style: the object and its place, no neighbour."""
    scene = next((kind for kind in world.scene_kinds if kind.name == each.scene), None)
    category = world.category(each.category)
    return {"category": each.category, "caption": short_caption(category, spoken_adjectives(each.attributes), scene)}


def write_corrections(folder: Path, scenes: Iterable[Scene], said: Callable[[SceneObject], Mapping[str, Any]]) -> None:
    """A folder of corrections: every object of the scenes, described by `said`."""
    (folder / IMAGES).mkdir(parents=True)
    with (folder / FILE).open("w", encoding="utf-8") as file:
        for scene in scenes:
            drawn = folder / IMAGES / "drawn.png"
            Image.fromarray(scene.image).save(drawn)
            name = f"{IMAGES}/{hashlib.sha256(drawn.read_bytes()).hexdigest()[:32]}.png"
            drawn.replace(folder / name)
            for place, each in enumerate(scene.objects):
                line = {"id": f"drawn:{scene.seed}:{place}", "image": name, "box": list(each.box), **said(each)}
                file.write(json.dumps(line) + "\n")


STORIES: Mapping[str, tuple[Split, Said, dict[str, Any]]] = {
    "artwork": ("heldout_sprites", whole_truth, {"what": ("heads",)}),
    "wording": ("test", house_style, {"what": ("lora",), "expect_change": ("caption",)}),
}


def tell(name: str, scenes: int, folder: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Run one story; changes: to the settings of its run."""
    split, said, settings = STORIES[name]
    world, sprites = World.load(), SpritePack.load()
    drawn = [draw_scene(world, sprites, FIRST_SCENE + seed, split) for seed in range(scenes)]
    write_corrections(folder / "corrections", drawn, lambda each: said(world, each))
    started = time.perf_counter()
    out = folder / "run"
    CorrectionRun(CorrectionSettings(folder / "corrections", **{**settings, **changes}), out).train()
    found: dict[str, Any] = json.loads((out / COMPARISON).read_text(encoding="utf-8"))
    return {**found, "scenes": scenes, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes of corrections per story")
    parser.add_argument("--steps", type=int, help="steps of tuning; by default the command's own")
    parser.add_argument("--only", choices=tuple(STORIES), nargs="*", default=list(STORIES))
    parser.add_argument("--keep", type=Path, help="keep the folders of the runs here")
    given = parser.parse_args()
    changes = {} if given.steps is None else {"steps": given.steps}
    stories, facts = {}, provenance()  # of the code that is running, whatever is committed meanwhile
    with tempfile.TemporaryDirectory() as temporary:
        for name in given.only:
            folder = (given.keep or Path(temporary)) / name
            stories[name] = tell(name, given.scenes, folder, changes)
            print(json.dumps({name: stories[name]}, indent=1))
    replace_text(RESULT, json.dumps({**facts, "stories": stories}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""`python -m benchmarks.conversing_cost`: what an answer costs, in processor time of all threads, by stage.

A conversation about an image: a first question, which finds nothing kept; a second one about the same image with an
answer of twelve tokens (a list of all objects, cut there); the same second question once everything kept was lost.
Drawn scenes of at least six objects, and photographs; medians over images. `prepare` is done by any process, `converse`
by the device's thread, `verify` is the region model's look at the answer's boxes. Bytes: of the converser's cache.

    python -m benchmarks.conversing_cost [--images 5] [--converser DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conversing import loaded
from dynrefer.model import DynRefer
from dynrefer.model.asking import asked_conversation
from dynrefer.model.conversation import Message, Reply, Role
from dynrefer.model.images import upright_pixels
from dynrefer.model.verification import queries_to_verify, with_verdicts
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World

PHOTOGRAPHS = Path(__file__).parent / "photographs"
FILES = ("cat-mug.jpg", "hotel-desk.jpg", "living-room.jpg", "tourist.jpg", "two-dogs.jpg")
FIRST_SEED = 6_900_000_000
TOKENS = 12  # of the second answer
FIRST, SECOND = "How many objects are there?", "List all objects."


def images(count: int) -> dict[str, list[NDArray[np.uint8]]]:
    """Drawn scenes and photographs, (H, W, 3) uint8."""
    world, sprites = World.load(), SpritePack.load()
    scenes = (draw_scene(world, sprites, seed, "test") for seed in itertools.count(FIRST_SEED))
    drawn = [each.image for each in itertools.islice((each for each in scenes if len(each.objects) >= 6), count)]
    return {"drawn": drawn, "photographs": [upright_pixels(PHOTOGRAPHS / name) for name in FILES[:count]]}


def timed(
    model: DynRefer, image: NDArray[np.uint8], messages: list[Message], tokens: int
) -> tuple[Reply, dict[str, float]]:
    """The reply, and the milliseconds of processor time of each stage."""
    height, width = image.shape[:2]
    spec = model.conversing
    assert spec is not None  # `loaded` gives no model without a converser
    marks = [time.process_time()]
    asked = asked_conversation(messages, {}, (width, height), ground=True, answers=(), max_tokens=tokens)
    (turn,) = spec.prepare_each(image, [asked])
    marks.append(time.process_time())
    (spoken,) = model.converse([turn])
    marks.append(time.process_time())
    while not spoken.done:
        turn = turn.after(spoken)
        (spoken,) = model.converse([turn])
    marks.append(time.process_time())
    queries = queries_to_verify(spoken.reply)
    if queries:
        regions = model.prepare(image, queries)
        outputs = model.run(regions)
        described = [model.finish(region, output) for region, output in zip(regions, outputs, strict=True)]
        with_verdicts(spoken.reply, described)
    marks.append(time.process_time())
    stages = ("prepare", "first piece", "later pieces", "verify")
    spent = {stage: (marks[place + 1] - marks[place]) * 1e3 for place, stage in enumerate(stages)}
    return spoken.reply, spent | {"all": (marks[-1] - marks[0]) * 1e3}


def measure(model: DynRefer, converser: Any, given: list[NDArray[np.uint8]]) -> dict[str, dict[str, float]]:
    """Turn -> stage -> median milliseconds over the images, with the answers' tokens and the cache's bytes."""
    rows: dict[str, list[dict[str, float]]] = {}
    for image in given:
        forget(converser)
        question = [Message(Role.USER, FIRST)]
        first, spent = timed(model, image, question, 64)
        rows.setdefault("first turn", []).append(_row(spent, first, converser))
        turns = [*question, Message(Role.ASSISTANT, first.content), Message(Role.USER, SECOND)]
        for name in ("second turn", "second turn, nothing kept"):
            reply, spent = timed(model, image, turns, TOKENS)
            rows.setdefault(name, []).append(_row(spent, reply, converser))
            forget(converser)
    return {
        turn: {stage: round(statistics.median(each[stage] for each in of), 1) for stage in of[0]}
        for turn, of in rows.items()
    }


def _row(spent: dict[str, float], reply: Reply, converser: Any) -> dict[str, float]:
    return {**spent, "tokens": reply.tokens, "cache bytes": converser.num_bytes}


def forget(converser: Any) -> None:
    """Empty the converser's cache, where it has one."""
    if hasattr(converser, "forget"):
        converser.forget()


def main() -> None:
    """Measure, print, and write the file where one is asked for."""
    parser = argparse.ArgumentParser(description="Measure what an answer costs.")
    parser.add_argument("--images", type=int, default=len(FILES), help="of each sort, at most 5 [default: %(default)s]")
    parser.add_argument("--converser", default="embedded", help="embedded, or a directory [default: %(default)s]")
    parser.add_argument("--weights", default="embedded", help="the model that describes [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, converser = loaded(options.converser, options.weights)
    given = images(options.images)
    measure(model, converser, given["drawn"][:1])  # what only the first call pays
    found = {name: measure(model, converser, each) for name, each in given.items()}
    for name, turns in found.items():
        for turn, stages in turns.items():
            print(f"{name}, {turn}:", stages)
    if options.json is not None:
        report = {**provenance(), "converser": options.converser, "milliseconds": found}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

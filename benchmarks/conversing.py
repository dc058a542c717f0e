"""`python -m benchmarks.conversing`: how well questions about drawn scenes are answered.

Test scenes of seeds that nothing else draws, and questions with exact answers (workbench/scenes/questions), put to the
model as users put theirs. Accuracy by kind, with standard errors over scenes, for forms of questions that training
knows, held-out wordings, held-out skeletons and held-out colour x object pairs; against the most frequent answer to the
question, the same question about a blank image, and the describer's caption as the answer; boxes at IoU >= .5; objects
named that are not there. Then the same objects in images of three times the width and height: once with tiles and once
in one low-resolution view, where the converser has such a switch.

    python -m benchmarks.conversing --scenes 40 [--seed 1] [--kinds colour,count] [--converser DIR] [--json FILE]
        [--answers FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dynrefer.model import DynRefer
from dynrefer.model.conversing import NO_CONVERSER, Converser
from dynrefer.model.loading import load_model, model_directory
from dynrefer.model.networks.converse.loading import load_converser
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.workbench.evaluation.conversing import summary
from dynrefer.workbench.evaluation.conversing.baselines import QuestionOnly
from dynrefer.workbench.evaluation.conversing.judge import Judge
from dynrefer.workbench.evaluation.conversing.measuring import Measured, Row
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate
from dynrefer.workbench.evaluation.report.tables import grid_table
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.questions.records import Kind
from dynrefer.workbench.scenes.world import World

FACTOR = 3  # a large image's width and height by its scene's
VIEWS = {"tiles": True, "one view": False}


def loaded(name: str, weights: str) -> tuple[DynRefer, Converser]:
    """The model with its converser. Ends the program with a sentence where there is none."""
    parts = load_model(weights, device="cpu", dtype="float32")
    directory = model_directory(weights)
    converser = load_converser(name, directory, parts)
    if converser is None:
        sys.exit(NO_CONVERSER)
    segmenter = load_segmenter("embedded", directory, parts.device)
    return DynRefer(parts, segmenter=segmenter, converser=converser), converser


def large_images(measured: Measured, converser: Converser, scenes: int) -> list[Row]:
    """Answers about large images, with tiles and without; none where the converser has no switch `tiled`.

    A converser that has it forgets what it saw when the switch changes.
    """
    switch: Any = converser
    if not isinstance(getattr(switch, "tiled", None), bool):
        print("large images are not measured: this converser has no switch `tiled`", file=sys.stderr)
        return []
    rows: list[Row] = []
    before = switch.tiled
    for name, tiled in VIEWS.items():
        switch.tiled = tiled
        rows += measured.rows_of_large_images(scenes, FACTOR, name)
    switch.tiled = before
    return rows


def shown(rows: list[Row], large: list[Row]) -> str:
    """All tables as Markdown."""
    single = {name: {"all conditions": cell} for name, cell in summary.grounding(rows).items()}
    tables: list[tuple[str, dict[str, dict[str, Estimate]]]] = [
        ("kind", summary.by_kind(rows)),
        ("baselines, training forms", summary.baselines(rows)),
        ("pointed with", summary.by_pointing(rows)),
        ("boxes and lists", single),
    ]
    if large:
        tables.append((f"images of {FACTOR} times the side", summary.by_object_size(large)))
    return "\n".join(grid_table(table, corner) for corner, table in tables)


def report(rows: list[Row], large: list[Row]) -> dict[str, Any]:
    """All tables, JSON-ready."""
    return {
        "by_kind": summary.values(summary.by_kind(rows)),
        "baselines": summary.values(summary.baselines(rows)),
        "by_pointing": summary.values(summary.by_pointing(rows)),
        "grounding": summary.values({"all": summary.grounding(rows)})["all"],
        "large_images": summary.values(summary.by_object_size(large)) if large else None,
        "answers": len(rows) + len(large),
    }


def main() -> None:
    """Measure, print the tables, and write the file where one is asked for."""
    parser = argparse.ArgumentParser(description="Measure answers to questions about drawn scenes.")
    parser.add_argument("--scenes", type=int, default=40, help="of every condition [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="which scenes; 1 is the one of published figures")
    parser.add_argument("--kinds", default="", help="only these, with commas between them [default: all]")
    parser.add_argument("--converser", default="embedded", help="embedded, or a directory [default: %(default)s]")
    parser.add_argument("--weights", default="embedded", help="the model that describes [default: %(default)s]")
    parser.add_argument("--large-scenes", type=int, default=None, help="large images [default: as --scenes]")
    parser.add_argument("--json", type=Path, help="write all tables to this file")
    parser.add_argument("--answers", type=Path, help="write every question with its answer to this file, one a line")
    options = parser.parse_args()
    kinds = {Kind(each.strip()) for each in options.kinds.split(",") if each.strip()} or None
    torch.set_num_threads(1)
    model, converser = loaded(options.converser, options.weights)
    world, sprites = World.load(), SpritePack.load()
    only = QuestionOnly.of_training(world, sprites)
    measured = Measured(model, world, sprites, Judge(world), only, options.seed, kinds)
    rows = list(measured.rows(options.scenes, lambda line: print(line, file=sys.stderr)))
    large = large_images(measured, converser, options.scenes if options.large_scenes is None else options.large_scenes)
    print(shown(rows, large))
    if options.answers is not None:
        lines = (json.dumps(asdict(row)) + "\n" for row in (*rows, *large))
        options.answers.write_text("".join(lines), encoding="utf-8")
    if options.json is not None:
        about = {**provenance(), "converser": options.converser, "seed": options.seed, "scenes": options.scenes}
        options.json.write_text(json.dumps({**about, **report(rows, large)}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

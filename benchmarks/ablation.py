"""The paper's ablation, scaled down: how many views, chosen how, and which losses.

    python -m benchmarks.ablation --out benchmarks/results [--model embedded] [--steps 250] [--seeds 2] [--processes 2]

Each variant is a small network, trained from random weights on the frozen vision tower of a trained model (see
`benchmarks.ablation_run`), once per seed. Runs of the same length and model that --out already holds are not repeated,
so a stopped ablation resumes. Writes ablation.json, ablation.md and ablation.png. Standard errors are over seeds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.ablation_data import Length, Variant
from benchmarks.ablation_run import Shared, run_variant
from dynrefer.workbench.data.atomic import replace_text
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate
from dynrefer.workbench.evaluation.report.tables import grid_table
from dynrefer.workbench.profiling.machine import provenance

_REGION_TEXT = ("region_text", "category", "attribute")
VARIANTS = (
    Variant("one crop", 1, "none", (("one crop (t = 0)", "none"),)),
    Variant("two fixed", 2, "fixed", (("two fixed views (t = 0, 1)", "fixed"),)),
    Variant("two random", 2, "random", (("two random views", "random"),)),
    Variant(
        "three random",
        3,
        "random",
        (("three random views", "random"), ("three random views + image prior", "image prior")),
    ),
    Variant("four random", 4, "random", (("four random views + image prior", "image prior"),)),
    Variant("without t = 0", 3, "random", (("three random views without t = 0", "random"),), region=False),
    Variant("no language", 3, "random", (("three, image prior, no language loss", "image prior"),), ("language",)),
    Variant("no tags", 3, "random", (("three, image prior, no tag loss", "image prior"),), ("tags",)),
    Variant("no text", 3, "random", (("three, image prior, no region-text losses", "image prior"),), _REGION_TEXT),
)
METRICS = {
    "class": "category: accuracy",
    "attribute_map": "attributes: mAP",
    "tag_f1": "tags: micro F1",
    "relation": "relation right",
    "cider": "CIDEr-D",
}
_TRAINING_SEED, _TEST_SEED = 200_000_000, 41  # scenes that no other training or evaluation draws

_shared: Shared | None = None  # of a worker process


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of ablation.json, .md and .png")
    parser.add_argument("--model", default="embedded", help="model whose towers are used: a name or a directory")
    parser.add_argument("--steps", type=int, default=250, help="training steps per run [%(default)s]")
    parser.add_argument("--scenes", type=int, default=12, help="scenes per batch [%(default)s]")
    parser.add_argument("--pool", type=int, default=2_000, help="training scenes [%(default)s]")
    parser.add_argument("--regions", type=int, default=500, help="unseen regions to measure [%(default)s]")
    parser.add_argument("--seeds", type=int, default=2, help="runs per variant [%(default)s]")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="parallel runs [%(default)s]")
    parser.add_argument("--only", nargs="*", choices=[variant.name for variant in VARIANTS], help="variants to run")
    given = parser.parse_args(arguments)
    length = Length(given.steps, given.scenes, given.pool, given.regions)
    given.out.mkdir(parents=True, exist_ok=True)
    store = given.out / "ablation.json"
    records = _kept(store, length, given.model)
    done = {(record["variant"], record["seed"]) for record in records}
    chosen = [variant for variant in VARIANTS if given.only is None or variant.name in given.only]
    missing = [(variant, seed) for seed in range(given.seeds) for variant in chosen if (variant.name, seed) not in done]
    for found in _run_all(missing, length, given.model, given.processes):
        records += found
        content = {"length": asdict(length), "model": given.model, **provenance(), "runs": records}
        replace_text(store, json.dumps(content, indent=1) + "\n")
    rows = table(records)
    (given.out / "ablation.md").write_text(_page(rows, records, length), encoding="utf-8")
    draw(rows).savefig(given.out / "ablation.png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    print((given.out / "ablation.md").read_text(encoding="utf-8"))


def _kept(store: Path, length: Length, model: str) -> list[dict[str, Any]]:
    """Finished runs of the same length and model."""
    if not store.exists():
        return []
    known = json.loads(store.read_text(encoding="utf-8"))
    if known["length"] != asdict(length) or known["model"] != model:
        raise SystemExit(f"{store} holds runs of another length or model; choose another --out, or remove it.")
    runs: list[dict[str, Any]] = known["runs"]
    return runs


def _run_all(
    runs: Sequence[tuple[Variant, int]], length: Length, model: str, processes: int
) -> Iterable[list[dict[str, Any]]]:
    """The records of each run as it ends; one thread per process, so that the runs do not slow each other down."""
    if not runs:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(runs)), mp_context=context, initializer=_start, initargs=(model, length)
    ) as pool:
        for future in as_completed([pool.submit(_run_one, variant, seed, length) for variant, seed in runs]):
            yield future.result()


def _start(model: str, length: Length) -> None:
    """Load and draw what all runs in a worker process share."""
    global _shared
    import torch
    from transformers import AutoTokenizer

    from dynrefer.model.loading import EMBEDDED, load_model
    from dynrefer.workbench.evaluation.drawn_regions import RegionSet
    from dynrefer.workbench.scenes.artwork import SpritePack
    from dynrefer.workbench.scenes.scene import draw_scene
    from dynrefer.workbench.scenes.world import World
    from dynrefer.workbench.scenes.world_vocabulary import world_vocabulary

    torch.set_num_threads(1)
    directory = EMBEDDED if model == "embedded" else Path(model)
    loaded = load_model(directory, device="cpu", dtype="float32")
    world, sprites = World.load(), SpritePack.load()
    if loaded.vocabulary != world_vocabulary(world):
        raise SystemExit(f"{model} was not trained on the drawn world: its vocabulary differs.")
    pool = [draw_scene(world, sprites, _TRAINING_SEED + place, "train") for place in range(length.pool)]
    regions = RegionSet.draw(world, sprites, "test", scenes_seed=_TEST_SEED, regions=length.regions)
    tokenizer = AutoTokenizer.from_pretrained(directory / "text_tokenizer")
    _shared = Shared(loaded, tokenizer, world, pool, regions)


def _run_one(variant: Variant, seed: int, length: Length) -> list[dict[str, Any]]:
    assert _shared is not None
    return run_variant(variant, seed, length, _shared)


def table(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Estimate]]:
    """Row -> metric -> mean over seeds with its standard error; rows in the order of `VARIANTS`."""
    rows: dict[str, dict[str, Estimate]] = {}
    for row in [row for variant in VARIANTS for row, _ in variant.evaluations]:
        of_row = [record["figures"] for record in records if record["row"] == row]
        cells = {}
        for name in METRICS:
            values = [metrics[name] for metrics in of_row if name in metrics]
            if values:
                spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
                cells[name] = Estimate(statistics.fmean(values), spread)
        if cells:
            rows[row] = cells
    return rows


def _page(rows: Mapping[str, Mapping[str, Estimate]], records: Sequence[Mapping[str, Any]], length: Length) -> str:
    titled = {row: {METRICS[name]: cell for name, cell in cells.items()} for row, cells in rows.items()}
    seeds = len({record["seed"] for record in records})
    about = provenance()
    return (
        f"# The paper's ablation, scaled down\n\n{grid_table(titled, 'variant')}\n"
        f"{length.steps} steps of {length.scenes} scenes out of {length.pool}, {seeds} seeds, "
        f"{length.regions} unseen regions; ± is the standard error over seeds. A cell is empty if that output was "
        f"not trained. Captions are generated without control words.\n"
        f"Commit {about['commit']}, {about['processor']}.\n\n![ablation](ablation.png)\n"
    )


def draw(rows: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """One panel per metric, one line per row, with standard errors."""
    figure = Figure(figsize=(2.2 * len(METRICS) + 3.2, 0.36 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True, squeeze=False)[0]
    names = list(rows)
    for axes, (name, title) in zip(panels, METRICS.items(), strict=True):
        for place, row in enumerate(names):
            cell = rows[row].get(name, Estimate())
            if cell.value is not None:
                axes.errorbar(
                    cell.value, place, xerr=cell.error or 0.0, fmt="o", color="#0072b2", markersize=5, capsize=2
                )
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(color="#e5e5e5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    return figure


if __name__ == "__main__":
    main()

"""Agreement of the embedded model's outputs in bfloat16 with those in float32, on drawn scenes."""

from typing import Any

from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import RegionDescription, RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import heading, provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

SCENES_SEED = 3
ALL_TAGS = 100_000  # top_k: more than any vocabulary has


def measure_agreement(regions: int) -> tuple[dict[str, Any], str]:
    """The proportions of regions with the same views and with the same caption, and of tags above the threshold in both
    dtypes among those above it in either. Returns the report and its table."""
    drawn = RegionSet.draw(World.load(), SpritePack.load(), "test", scenes_seed=SCENES_SEED, regions=regions)
    models = [DynRefer.load("embedded", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")]
    pairs = list(zip(*(_describe(drawn, model) for model in models), strict=True))  # of each region: float32, bfloat16
    tags = [({x.name for x in a.tags or ()}, {x.name for x in b.tags or ()}) for a, b in pairs]
    both, either = sum(len(a & b) for a, b in tags), sum(len(a | b) for a, b in tags)
    captions = [a.caption is not None and a.caption.text == _text(b) for a, b in pairs]
    report = {
        **provenance(),
        "revision": models[0].card.revision,
        "regions": len(pairs),
        "views_identical": _proportion([a.plan == b.plan for a, b in pairs]),
        "tags_in_both": round(both / max(either, 1), 4),
        "captions_identical": _proportion(captions),
    }
    lines = [heading(report), "", "| | bfloat16 as float32 | target |", "|---|---|---|"]
    for name, target in (("views_identical", 1.0), ("tags_in_both", 0.98), ("captions_identical", 0.9)):
        lines.append(f"| {name} | {report[name]} | {target} |")
    return report, "\n".join(lines)


def _describe(drawn: RegionSet, model: DynRefer) -> list[RegionDescription]:
    found: list[RegionDescription] = []
    for scene in drawn.scenes:
        queries = [RegionQuery(each.box, top_k=ALL_TAGS) for each in scene.objects]
        prepared = model.prepare(scene.image, queries)
        found += [model.finish(*pair) for pair in zip(prepared, model.run(prepared), strict=True)]
    return found


def _text(answer: RegionDescription) -> str | None:
    return None if answer.caption is None else answer.caption.text


def _proportion(same: list[bool]) -> float:
    return round(sum(same) / max(len(same), 1), 4)

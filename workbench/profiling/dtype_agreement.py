"""How far the embedded model in bfloat16 says the same as in float32, on drawn scenes."""

from typing import Any

from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import RegionDescription, RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.profiling.report_tables import heading
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

SEED = 3
EVERY_TAG = 100_000


def measure_agreement(regions: int) -> tuple[dict[str, Any], str]:
    """Shares of regions with the same views and the same caption, and of tags that are above the threshold in both:
    report and table."""
    drawn = RegionSet.draw(World.load(), SpritePack.load(), "test", scenes_seed=SEED, regions=regions)
    models = [DynRefer.load("embedded", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")]
    exact, short = (_describe(drawn, model) for model in models)
    tags = [({x.name for x in a.tags or ()}, {x.name for x in b.tags or ()}) for a, b in zip(exact, short, strict=True)]
    both, either = sum(len(a & b) for a, b in tags), sum(len(a | b) for a, b in tags)
    captions = [a.caption is not None and a.caption.text == _text(b) for a, b in zip(exact, short, strict=True)]
    report = {
        **provenance(),
        "revision": models[0].card.revision,
        "regions": len(exact),
        "views_identical": _share([a.plan == b.plan for a, b in zip(exact, short, strict=True)]),
        "tags_in_both": round(both / max(either, 1), 4),
        "captions_identical": _share(captions),
    }
    lines = [heading(report), "", "| | bfloat16 as float32 | goal |", "|---|---|---|"]
    for name, goal in (("views_identical", 1.0), ("tags_in_both", 0.98), ("captions_identical", 0.9)):
        lines.append(f"| {name} | {report[name]} | {goal} |")
    return report, "\n".join(lines)


def _describe(drawn: RegionSet, model: DynRefer) -> list[RegionDescription]:
    answers: list[RegionDescription] = []
    for scene in drawn.scenes:
        queries = [RegionQuery(each.box, top_k=EVERY_TAG) for each in scene.objects]
        prepared = model.prepare(scene.image, queries)
        answers += [model.finish(*pair) for pair in zip(prepared, model.run(prepared), strict=True)]
    return answers


def _text(answer: RegionDescription) -> str | None:
    return None if answer.caption is None else answer.caption.text


def _share(same: list[bool]) -> float:
    return round(sum(same) / max(len(same), 1), 4)

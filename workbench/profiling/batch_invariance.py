"""Whether a region's answer depends on the company that it has in its batch: the embedded model, to the last bit.

A matrix product may round a row differently where it has other rows beside it. Every region is described alone, then in
batches of several sizes, each time with other regions, and the network's own numbers are compared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.postprocessing import RawOutputs
from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.profiling.report_tables import heading
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

SEED = 4
SIZES = (2, 3, 5, 8, 16, 32)


def measure_company(regions: int, dtype: str = "float32") -> tuple[dict[str, Any], str]:
    """Per size of the batch: regions with any other number than alone, and the largest difference. Report and table."""
    model = DynRefer.load("embedded", device="cpu", dtype=dtype, cache_bytes=0)
    drawn = RegionSet.draw(World.load(), SpritePack.load(), "test", scenes_seed=SEED, regions=regions)
    prepared = [
        each
        for scene in drawn.scenes
        for each in model.prepare(scene.image, [RegionQuery(found.box) for found in scene.objects])
    ]
    alone = [_numbers(model.run([each])[0].findings) for each in prepared]
    rng = np.random.default_rng(SEED)
    rows = []
    for size in SIZES:
        order = rng.permutation(len(prepared)).tolist()
        other, largest = 0, 0.0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            outputs = model.run([prepared[index] for index in batch])
            for index, output in zip(batch, outputs, strict=True):
                numbers = _numbers(output.findings)
                other += numbers.tobytes() != alone[index].tobytes()
                largest = max(largest, _distance(numbers, alone[index]))
        rows.append({"batch": size, "regions": len(order), "other": other, "largest_difference": largest})
    report = {**provenance(), "revision": model.card.revision, "dtype": dtype, "rows": rows}
    lines = [heading(report), "", "| regions in a batch | regions | other numbers than alone | largest difference |"]
    lines.append("|---|---|---|---|")
    for row in rows:
        lines.append(f"| {row['batch']} | {row['regions']} | {row['other']} | {row['largest_difference']:.2g} |")
    return report, "\n".join(lines)


def _numbers(findings: Sequence[RawOutputs]) -> NDArray[np.float64]:
    """Everything that the network found, in a row; a caption as its ids and its scores."""
    parts: list[NDArray[np.float64]] = []
    for found in findings:
        for logits in (found.tags, found.attributes, found.categories):
            parts.append(np.asarray([] if logits is None else logits, dtype=np.float64))
        if found.caption is not None:
            # Without what pads the shorter ones of a batch.
            ids = found.caption.tokens[: found.caption.length + 1]
            parts.append(np.array([*ids, found.caption.score, found.caption.logprob_sum], dtype=np.float64))
    return np.concatenate(parts)


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else float("inf")

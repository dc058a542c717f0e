"""Batch invariance of the embedded model: a region's numbers should not depend on what else is in its batch.

A matrix product may round a row differently when other rows stand beside it. Every region is described alone, then in
batches of several sizes, each time with other regions, and the raw outputs of the network are compared bit by bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.batch import RawOutputs
from dynrefer.model.predictor import DynRefer
from dynrefer.model.tasks.caption import GeneratedCaption
from dynrefer.model.types import RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import heading, provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

SCENES_SEED = 4
BATCH_SIZES = (2, 3, 5, 8, 16, 32)


def measure_batch_invariance(regions: int, dtype: str = "float32") -> tuple[dict[str, Any], str]:
    """Per batch size: how many regions have any number that differs from the region alone ("other"), and the largest
    absolute difference. Returns the report and its table."""
    model = DynRefer.load("embedded", device="cpu", dtype=dtype, cache_bytes=0)
    drawn = RegionSet.draw(World.load(), SpritePack.load(), "test", scenes_seed=SCENES_SEED, regions=regions)
    prepared = [
        each
        for scene in drawn.scenes
        for each in model.prepare(scene.image, [RegionQuery(obj.box) for obj in scene.objects])
    ]
    alone = [_numbers(model.run([each])[0].outputs) for each in prepared]
    rng = np.random.default_rng(SCENES_SEED)
    rows = []
    for size in BATCH_SIZES:
        order = rng.permutation(len(prepared)).tolist()
        different, largest = 0, 0.0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            outputs = model.run([prepared[index] for index in batch])
            for index, output in zip(batch, outputs, strict=True):
                numbers = _numbers(output.outputs)
                different += numbers.tobytes() != alone[index].tobytes()
                largest = max(largest, _largest_difference(numbers, alone[index]))
        rows.append({"batch": size, "regions": len(order), "other": different, "largest_difference": largest})
    report = {**provenance(), "revision": model.card.revision, "dtype": dtype, "rows": rows}
    lines = [heading(report), "", "| batch size | regions | differ from alone | largest difference |"]
    lines.append("|---|---|---|---|")
    for row in rows:
        lines.append(f"| {row['batch']} | {row['regions']} | {row['other']} | {row['largest_difference']:.2g} |")
    return report, "\n".join(lines)


def _numbers(outputs: Sequence[RawOutputs]) -> NDArray[np.float64]:
    """All raw outputs of a region in one row: logits, and of a caption its token ids and scores."""
    parts: list[NDArray[np.float64]] = []
    for found in outputs:
        for output in found.values():
            if isinstance(output, GeneratedCaption):
                ids = output.tokens[: output.length + 1]  # without padding
                parts.append(np.array([*ids, output.score, output.logprob_sum], dtype=np.float64))
            else:
                parts.append(np.asarray(output, dtype=np.float64))
    return np.concatenate(parts)


def _largest_difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Infinite where the lengths differ, that is, where the captions do."""
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else float("inf")

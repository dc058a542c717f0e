"""What a model costs to run: its size on disk, and processor time per region on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dynrefer.model.types import Corners, RegionQuery
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import RegionPredictor
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate

BATCH_REGIONS, ROUNDS = 32, 5


def megabytes(directory: Path) -> Estimate:
    """Size of all files in a model directory, in units of 10^6 bytes."""
    return Estimate(sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6)


def core_ms_per_region(predictor: RegionPredictor, regions: RegionSet) -> Estimate:
    """Processor milliseconds per region with all four outputs, in a batch of 32 on one core, from decoded image
    to result; the median of five batches. Not measured for a model that is not on a CPU."""
    if predictor.card.device != "cpu":
        return Estimate()
    batch = list(islice(_one_by_one(regions), BATCH_REGIONS))

    def once() -> float:
        started = time.process_time()
        prepared = [region for image, box in batch for region in predictor.prepare(image, [RegionQuery(box)])]
        for region, output in zip(prepared, predictor.run(prepared), strict=True):
            predictor.finish(region, output)
        return (time.process_time() - started) * 1e3 / len(prepared)

    with _one_thread():
        times = [once() for _ in range(ROUNDS + 1)]
    return Estimate(statistics.median(times[1:]))


def _one_by_one(regions: RegionSet) -> Iterator[tuple[NDArray[np.uint8], Corners]]:
    """Image and box of each region, so that each is prepared by itself."""
    for source in regions.image_regions():
        image = source.load()
        for box in source.boxes:
            yield image, box


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The embedded model on the device: in batches and served."""

import random
import statistics
import time
from collections.abc import Iterator

from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure, rate_name
from benchmarks.gpu_check.service import loads
from benchmarks.offline import SCENE, random_boxes
from dynrefer.model.images import upright_pixels
from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import RegionQuery


def measure(given: Conditions) -> Iterator[Figure]:
    """Batches of prepared regions, evidence of photographs included; then the service."""
    model = DynRefer.load("embedded", device=given.device)
    pixels, rng = upright_pixels(SCENE), random.Random(1)
    height, width = pixels.shape[:2]
    for regions in given.batches:
        boxes = random_boxes(regions, rng)
        queries = [RegionQuery((a * width, b * height, c * width, d * height)) for a, b, c, d in boxes]
        prepared = model.prepare(pixels, queries)
        times = []
        for _ in range(given.repeats + 1):
            began = time.perf_counter()
            model.run(prepared)
            times.append(time.perf_counter() - began)
        yield Figure("embedded", rate_name(regions, "all"), regions / statistics.median(times[1:]), "regions/s")
    del model
    yield from loads(given, "embedded", "embedded")

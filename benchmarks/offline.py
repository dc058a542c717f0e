"""`python -m benchmarks.offline SECONDS` measures the predictor in a loop, without a service, and prints JSON.

Runs in a process of its own, like the service, and with the service's thread settings.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynrefer import model
from dynrefer.model import RegionQuery
from dynrefer.service import set_thread_environment

if TYPE_CHECKING:
    from dynrefer.model.images import Pixels

SCENE = str(Path(__file__).parents[1] / "docs" / "images" / "scene.png")
BATCH, PER_REQUEST = 16, 8
LONE_FRACTION = 1 / 3  # of the time, for one region at a time


@dataclass(frozen=True)
class Offline:
    """model, revision: what was measured. regions_per_s: in batches of 16, image decoding included.

    batch_s: median of `run` alone on such a batch. lone_s: median of prepare, run and finish for one region.
    """

    model: str
    revision: str
    regions_per_s: float
    batch_s: float
    lone_s: float


def random_boxes(count: int, rng: random.Random) -> list[tuple[float, float, float, float]]:
    """Random boxes, normalised; all different, because the network encodes equal views of a batch once."""
    corners = [(rng.uniform(0, 0.6), rng.uniform(0, 0.6)) for _ in range(count)]
    return [(x, y, x + 0.3, y + 0.3) for x, y in corners]


def measured(seconds: float) -> Offline:
    """Measure in a new process."""
    command = [sys.executable, "-m", "benchmarks.offline", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Offline(**json.loads(done.stdout))


class Loop:
    """A loaded model that describes regions of one image."""

    def __init__(self) -> None:
        from dynrefer.model import DynRefer  # imports torch, which the load generator does not need

        self._model = DynRefer.load("embedded", device="cpu")
        self._rng = random.Random(1)

    def measure(self, seconds: float) -> Offline:
        """Measure each part for its fraction of the time, after a warm-up."""
        self._one()
        self._batch()
        lone: list[float] = []
        until = time.perf_counter() + seconds * LONE_FRACTION
        while time.perf_counter() < until or not lone:
            lone.append(self._one())
        runs: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds * (1 - LONE_FRACTION) or not runs:
            runs.append(self._batch())
        rate = BATCH * len(runs) / (time.perf_counter() - began)
        card = self._model.card
        return Offline(card.name, card.revision, rate, statistics.median(runs), statistics.median(lone))

    def _one(self) -> float:
        """Seconds of prepare, run and finish for one region of a decoded image."""
        pixels, queries = self._request(1)
        began = time.perf_counter()
        (region,) = self._model.prepare(pixels, queries)
        self._model.finish(region, self._model.run([region])[0])
        return time.perf_counter() - began

    def _batch(self) -> float:
        """Process one batch, decoding as many images as its requests would bring; seconds of its `run`."""
        regions: list[Any] = []
        while len(regions) < BATCH:
            regions += self._model.prepare(*self._request(PER_REQUEST))
        began = time.perf_counter()
        outputs = self._model.run(regions)
        ran = time.perf_counter() - began
        for region, output in zip(regions, outputs, strict=True):
            self._model.finish(region, output)
        return ran

    def _request(self, count: int) -> "tuple[Pixels, list[RegionQuery]]":
        """The image, decoded again, and random regions of it."""
        pixels = model.upright_pixels(SCENE)
        height, width = pixels.shape[:2]
        boxes = random_boxes(count, self._rng)
        return pixels, [RegionQuery((a * width, b * height, c * width, d * height)) for a, b, c, d in boxes]


if __name__ == "__main__":
    set_thread_environment()  # neither NumPy nor torch is loaded yet
    print(json.dumps(asdict(Loop().measure(float(sys.argv[1])))))

"""The service compared with the predictor in an offline loop, in turn, because a shared machine's speed varies."""

from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.load import Bench, Records, Row, Sizes, ms, rate
from benchmarks.offline import SCENE, Offline, measured


@dataclass(frozen=True)
class Rounds:
    """Measurements taken in turn, one of each per round. lone, eight: records of one client, and of eight."""

    offline: list[Offline]
    lone: list[Records]
    eight: list[Records]

    @property
    def all_lone(self) -> Records:
        """The records of one client, over all rounds."""
        return [record for each in self.lone for record in each]

    def offline_row(self) -> Row:
        """Throughput of the service over that of the offline loop."""
        served = [rate(each, 8) for each in self.eight]
        alone = [each.regions_per_s for each in self.offline]
        ratio = median(one / other for one, other in zip(served, alone, strict=True))
        return Row(
            f"8 clients, 8 regions each / the offline loop, decoding included: medians of {len(served)} in turn",
            f"{median(served):.1f} / {median(alone):.1f} regions/s; of the ratios {ratio:.1%}",
            ">= 95 %",
            ratio >= 0.95,
        )

    def wait_row(self) -> Row:
        """A lone request's time in the queue, as reported by the service."""
        p99 = float(np.percentile([each["queue_ms"] for each in self.all_lone if each["queue_ms"] is not None], 99))
        return Row("a lone request's wait for its batch: p99", f"{p99:.2f} ms", "<= 2 ms, the setting", p99 <= 2)

    def extra_row(self, no_op_ms: float) -> Row:
        """Overhead of workers, queue and threads.

        no_op_ms: latency of HTTP and image decoding, without a model.
        """
        served = [ms(each, 50) for each in self.lone]
        bare = [each.lone_s * 1e3 for each in self.offline]
        extra = median(one - other for one, other in zip(served, bare, strict=True)) - no_op_ms
        return Row(
            "a lone request: p50 over HTTP - prepare, run and finish in the offline loop - p50 of the no-op model with"
            f" the same image: median of {len(served)} in turn",
            f"{median(served):.1f} - {median(bare):.1f} - {no_op_ms:.1f}: {extra:.1f} ms",
            "<= 2 ms, the setting",
            extra <= 2,
        )


def in_turn(bench: Bench, sizes: Sizes) -> Rounds:
    """Repeat: the offline loop, one client, eight clients."""
    rounds = Rounds([], [], [])
    for _ in range(sizes.rounds):
        rounds.offline.append(measured(sizes.round_seconds))
        rounds.lone.append(bench.load(image=SCENE, clients=1, seconds=sizes.round_seconds / 2))
        rounds.eight.append(bench.load(image=SCENE, regions=8, clients=8, seconds=1.5 * sizes.round_seconds))
    return rounds

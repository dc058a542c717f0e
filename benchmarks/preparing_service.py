"""`python -m benchmarks.preparing_service`: a service that prepares images as the embedded model does, and computes
nothing.

So benchmarks/image_work.py measures decoding, view plans and crops, and not the model. Settings from DYNREFER_*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dynrefer.model import (
    DynRefer,
    ModelCard,
    PreparationSpec,
    PreparedRegion,
    RegionDescription,
    RequestVocabulary,
    Task,
)
from dynrefer.model.cache import CacheStats
from dynrefer.service.server.server import exit_process, listen, serve
from dynrefer.service.settings import load_settings


class PreparingPredictor:
    """Fulfils `dynrefer.model.protocol.Predictor`; every task of every region finds nothing."""

    segmentation: None = None
    finding: None = None

    def __init__(self, card: ModelCard, preparation: PreparationSpec) -> None:
        self.card, self.preparation = card, preparation

    @property
    def cache_stats(self) -> Mapping[str, CacheStats]:
        """Nothing is cached."""
        return {"views": CacheStats(), "regions": CacheStats()}

    @property
    def cuda_graphs(self) -> Mapping[str, int]:
        """None."""
        return {}

    def understand(self, vocabulary: RequestVocabulary) -> None:
        """Nothing is found of its words either."""

    def batch_limits(self) -> None:
        """The usual ones."""

    def continuous(self) -> None:
        """Whole batches."""

    def run(self, regions: Sequence[PreparedRegion], should_stop: Callable[[], bool] = lambda: False) -> list[None]:
        """Nothing, for each region."""
        return [None] * len(regions)

    def finish(self, region: PreparedRegion, output: None) -> RegionDescription:
        """A region without tags, with its views."""
        plan = region.inputs[0].plan
        return RegionDescription(
            box=region.box,
            clipped=region.clipped,
            plan=plan,
            plans={Task.TAGS: plan},
            results={Task.TAGS: ()},
            timings_ms=dict(region.timings_ms),
        )


def main() -> None:
    """Serve until a signal comes."""
    model = DynRefer.load("embedded", device="cpu")
    settings = load_settings()
    with listen(settings.host, settings.port) as listener:
        code, _ = serve(settings, listener, PreparingPredictor(model.card, model.preparation))
    exit_process(code)


if __name__ == "__main__":
    main()

"""The model as an edge has it: how regions are prepared, and what is known about it; replicas do the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from dynrefer.model import (
    BatchLimits,
    Candidates,
    ContinuousBatch,
    ConverserSpec,
    ConverseTurn,
    FinderInput,
    FinderSpec,
    Findings,
    FindQuery,
    ModelCard,
    PointedRegion,
    Preparation,
    RegionDescription,
    RegionQuery,
    RequestVocabulary,
    Spoken,
    WindowMask,
)
from dynrefer.service.engine.executor import ExecutorCounts
from dynrefer.service.scale.ray.messages import ReplicaModel

ON_A_REPLICA = "this runs on a replica"


@dataclass(frozen=True, slots=True)
class _Counts:
    hits: int
    misses: int


class ReplicaPredictor:
    """A `Predictor` whose outputs are the replicas' finished records. model: as a replica told it.

    ask: (method, arguments) -> what any replica answers; waits. counts: of all replicas.
    """

    def __init__(self, model: ReplicaModel, ask: Callable[..., Any], counts: Callable[[], ExecutorCounts]) -> None:
        self._model = model
        self._ask = ask
        self._counts = counts

    @property
    def identity(self) -> str:
        """See `ReplicaModel`."""
        return self._model.identity

    @property
    def card(self) -> ModelCard:
        """See `Predictor`."""
        return self._model.card

    @property
    def cache_stats(self) -> Mapping[str, _Counts]:
        """See `Predictor`."""
        return {name: _Counts(*counts) for name, counts in self._counts().caches.items()}

    @property
    def preparation(self) -> Preparation[Any]:
        """See `Predictor`."""
        return self._model.preparation

    @property
    def cuda_graphs(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return self._counts().graphs

    @property
    def segmentation(self) -> Preparation[PointedRegion] | None:
        """See `Predictor`."""
        return self._model.segmentation

    @property
    def finding(self) -> FinderSpec | None:
        """See `Predictor`."""
        return self._model.finding

    @property
    def conversing(self) -> ConverserSpec | None:
        """See `Predictor`."""
        return self._model.conversing

    def understand(self, vocabulary: RequestVocabulary) -> None:
        """See `Predictor`: the replica that runs the regions does it, for its own sake."""

    def look_again(self, query: FindQuery, found: Candidates) -> Sequence[RegionQuery]:
        """See `Predictor`."""
        return cast("Sequence[RegionQuery]", self._ask("look_again", query, found))

    def findings(
        self, query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], size: tuple[int, int]
    ) -> Findings:
        """See `Predictor`."""
        return cast("Findings", self._ask("findings", query, found, looked, size))

    def finish(self, region: Any, output: Any) -> RegionDescription:
        """See `Predictor`: a replica did it already."""
        return cast("RegionDescription", output)

    def batch_limits(self) -> BatchLimits | None:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

    def continuous(self) -> ContinuousBatch[Any, Any] | None:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

    def run(self, regions: Sequence[Any], should_stop: Callable[[], bool]) -> Sequence[Any]:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

    def segment(self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool]) -> Sequence[WindowMask]:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> Sequence[Candidates]:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> Sequence[Spoken]:
        """See `Predictor`."""
        raise NotImplementedError(ON_A_REPLICA)

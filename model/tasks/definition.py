"""What a task is: one output that can be requested for a region, from its name to its result.

No torch at import: the service reads names, stages and thresholds from the tasks when it starts.

Shapes: R = regions, Q = region tokens, C = channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.evidence import Evidence
    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.types import CaptionWriting
    from dynrefer.model.vocabulary import Vocabulary

Output = TypeVar("Output")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TaskBatch:
    """The regions of a batch for which a task runs.

    representation: (R, Q, C) float32, on the device. controls: the control words of each region. writing: how the
    caption of each is searched for.
    needed: task name -> its outputs for these regions, of every task in `needs`.
    identities: what each region's object is, where the model decides that first; else None.
    should_stop: polled during long work; None if the batch cannot be cancelled.
    tags: where a region's request has tags of its own that control its caption, those above their threshold, best
    first; None for a region whose caption the model's own tags control. Empty: so for all regions.
    """

    representation: Tensor
    controls: Sequence[tuple[str, ...]]
    writing: Sequence[CaptionWriting]
    needed: Mapping[str, Sequence[Any]]
    identities: Sequence[Identity | None]
    should_stop: Callable[[], bool] | None
    tags: Sequence[tuple[str, ...] | None] = ()

    def of(self, rows: Sequence[int]) -> TaskBatch:
        """These regions of it."""
        return TaskBatch(
            self.representation[list(rows)],
            [self.controls[row] for row in rows],
            [self.writing[row] for row in rows],
            {name: [outputs[row] for row in rows] for name, outputs in self.needed.items()},
            [self.identities[row] for row in rows],
            self.should_stop,
            [self.tags[row] for row in rows] if self.tags else (),
        )


class TaskDefinition(ABC, Generic[Output, Result]):
    """One output of the model.

    Output: what the device computes for a region (numpy or plain numbers). Result: what an answer holds.
    """

    name: ClassVar[str]  # in requests, answers and config.json
    stage: ClassVar[str]  # under which its time on the device is reported; tasks may share one
    prior: ClassVar[tuple[float, ...]]  # t of its views for weights that were not tuned, t = 0 first
    needs: ClassVar[tuple[str, ...]] = ()  # tasks whose outputs `run` takes
    scored: ClassVar[bool] = False  # whether a request may set a threshold on its scores
    # The threshold that applies unless a request sets one; None: every score is returned.
    default_threshold: ClassVar[float | None] = None
    record: ClassVar[type]  # the dataclass of one result
    many: ClassVar[bool] = False  # whether a result is a tuple of records, best first, or a single one

    @abstractmethod
    def run(self, loaded: LoadedModel, batch: TaskBatch) -> Sequence[Output]:
        """The outputs of a batch's R regions, in order. On the device's thread, without gradients."""

    @abstractmethod
    def is_finite(self, output: Output) -> bool:
        """Whether the output is free of NaN and infinity."""

    @abstractmethod
    def finish(
        self, loaded: LoadedModel, output: Output, identity: Identity | None, threshold: float | None, top_k: int
    ) -> Result:
        """A region's result. On any thread, without the device.

        identity: as in `TaskBatch`; what the result says of the object agrees with it.
        threshold: only scores strictly above it are returned. top_k: the most records to return, where `many`.
        """

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """Every label that the network scores, in that order; empty where its answers are free text."""
        return ()

    def names_of_photographs(self, evidence: Evidence) -> tuple[str, ...]:
        """Every label that evidence of photographs adds; empty where it adds none."""
        return ()

    def default_prior(self, num_views: int) -> tuple[float, ...]:
        """`prior` for a network of `num_views` views; evenly spaced where it has more than the prior names."""
        if num_views > len(self.prior):
            return tuple(i / 10 for i in range(num_views))
        return self.prior[:num_views]

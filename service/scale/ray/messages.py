"""What an edge and a model replica say to each other: plain records that pickle. No torch.

An edge is a process that talks HTTP, prepares regions and admits requests; a replica owns a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model import ConverserSpec, FinderSpec, ModelCard, PointedRegion, Preparation
from dynrefer.service.engine.executor import ExecutorCounts, Phase
from dynrefer.service.engine.reservations import RegionResult, WorkKind

TURN_REGIONS = 16  # of which a batch takes as many views as of a turn (model/conversing.py)


@dataclass(frozen=True, slots=True)
class Call:
    """Work for one replica. id: of this attempt. regions: how many items go with it. model: the identity of the model
    that they were prepared for. request_id, caller: as in `RequestContext`. left_s: seconds until the deadline, which
    no clock of another machine has to agree with; None: there is none. image: digest of the one that a question is
    about; None of other work. written: the tokens that its answer has so far; all else of a turn is the same for all of
    its pieces."""

    id: str
    regions: int
    kind: WorkKind
    model: str
    request_id: str
    caller: str | None
    left_s: float | None
    image: bytes | None = None
    written: tuple[int, ...] = ()

    @property
    def load(self) -> int:
        """How much of a replica's batch it takes, in regions."""
        return self.regions * (TURN_REGIONS if self.kind is WorkKind.CONVERSE else 1)


@dataclass(frozen=True, slots=True)
class Reply:
    """results: in the order of the items, or None where the replica did not take them, and another one may.

    refusal: why it did not.
    """

    results: Sequence[RegionResult[Any]] | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaModel:
    """All that an edge has to know of the model. identity: what tells it from any other; see `Call.model`."""

    card: ModelCard
    preparation: Preparation[Any]
    segmentation: Preparation[PointedRegion] | None
    finding: FinderSpec | None
    conversing: ConverserSpec | None
    identity: str


@dataclass(frozen=True, slots=True)
class EdgeState:
    """What an edge says of itself when it asks. name: its own, as no other edge has it. admitted: regions that wait or
    are being described, whether or not they have been sent to a replica yet."""

    name: str
    admitted: int


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica as it is now. batches: (number, regions, views) of those it ran last. out_of_memory: how many batches
    did not fit its device so far. of_other_edges: regions that edges other than the one that asks have admitted, as
    they said last. model: identity of its model, as of `ReplicaModel`."""

    phase: Phase
    counts: ExecutorCounts
    batches: tuple[tuple[int, int, int], ...] = ()
    out_of_memory: int = 0
    of_other_edges: int = 0
    model: str = ""

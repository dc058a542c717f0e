"""Work that is recorded once and replayed as a whole, so that Python and launches of single kernels cost nothing.

A piece of work reads and writes tensors of fixed addresses and shapes, and never waits for the device.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor

Work = Callable[[], None]


class Graphs(Protocol):
    """Where work is recorded: CUDA graphs, or nowhere."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many pieces of work are "captured", and how many have "fallen back"."""

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        """The work as something to replay; the work itself where it is not recorded.

        name: for the log. state: all that the work changes and that must be as before afterwards; a replay is compared
        with the work itself by what both make of it.
        """


class NoGraphs:
    """For devices without graphs: the work itself."""

    counts: Mapping[str, int] = {}

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        """See `Graphs`."""
        return work

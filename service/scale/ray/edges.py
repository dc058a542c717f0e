"""What a replica knows of the edges that send it regions, so that each of them learns what the others have admitted.

Regions wait at an edge first, for their image to be prepared, and no replica sees them there. Edges that knew of each
other only through the queues of replicas would together admit many times what can be described before its deadline.
"""

import time

from dynrefer.service.scale.ray.messages import EdgeState

FORGET_S = 10.0  # after its last question an edge counts as gone


class Edges:
    """For one thread."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[int, float]] = {}  # by edge: regions, and when it said so

    def heard(self, edge: EdgeState | None) -> int:
        """Note what an edge says of itself; what the others have said. None: one that says nothing."""
        now = time.monotonic()
        self._said = {name: each for name, each in self._said.items() if now - each[1] < FORGET_S}
        if edge is not None:
            self._said[edge.name] = edge.admitted, now
        own = "" if edge is None else edge.name
        return sum(admitted for name, (admitted, _) in self._said.items() if name != own)

"""Which replica a call goes to: the one with the fewest regions, of those that answer and are ready.

Serve's own router counts calls, and believes a replica that hangs for as long as its last count is cached: each call
that is given up there makes it look emptier. So it is told by the edge's `Board`.

Serve sends this module's code, and the values of its globals, to the processes that route. So the board is had by a
function of another module.
"""

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from dynrefer.service.scale.ray.board import TO, Board, board_of
from dynrefer.service.scale.ray.messages import Call


class LeastRegions(RequestRouter):
    """Serve's router for calls of `ModelReplica`. Runs on the loop of Serve's routers."""

    @property
    def _board(self) -> Board:
        return board_of(self._deployment_id.app_name)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve whenever there are others."""
        super().update_replicas(replicas)
        self._board.update(each.replica_id.unique_id for each in replicas)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """One replica; none for the moment where none answers, and Serve asks again."""
        board, by_name = self._board, {each.replica_id.unique_id: each for each in candidate_replicas}
        if pending_request is not None:
            # Else Serve would ask again at once, without end, and its loop would do nothing else.
            pending_request.routing_context.should_backoff = True
        arguments: dict[str, Any] = {} if pending_request is None else pending_request.kwargs
        if (wanted := arguments.get(TO)) is not None:
            return [[by_name[wanted]]] if wanted in by_name else []
        call = pending_request.args[0] if pending_request is not None and pending_request.args else None
        chosen = board.route(call.id if isinstance(call, Call) else "", by_name)
        return [] if chosen is None else [[by_name[chosen]]]

"""The metrics on a port of their own: few connections, no threads, nothing but /metrics."""

import socket

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from uvicorn.server import ServerState

from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.server.acceptor import Acceptor
from dynrefer.service.server.connections import protocol_class
from dynrefer.service.settings import Settings

CONNECTIONS = 32  # scrapers need one each; a new one takes the place of the oldest idle one


class MetricsPort:
    """listener: a listening socket, which this closes. Answers once `start` was called in the event loop."""

    def __init__(self, listener: socket.socket, settings: Settings, metrics: Metrics) -> None:
        self.state = ServerState()
        config = uvicorn.Config(
            _application(metrics),
            http=protocol_class(settings.header_timeout_s),
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=settings.keep_alive_s,
        )
        config.load()
        self._acceptor = Acceptor(listener, config, self.state, {}, CONNECTIONS, evicting=True)

    def start(self) -> None:
        """Answer from now on."""
        self._acceptor.start()

    def close(self) -> None:
        """Accept nothing more and close what is open."""
        self._acceptor.close()
        for connection in list(self.state.connections):
            connection.shutdown()


def _application(metrics: Metrics) -> Router:
    """GET and HEAD of /metrics; 404 and 405 for anything else."""

    async def scrape(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return Router([Route("/metrics", scrape)], redirect_slashes=False)

"""Runs the application under uvicorn: signals, drain, and how the process ends."""

import socket
import sys
from types import FrameType

import uvicorn

from . import logs
from .app import create_app
from .engine import Engine, Predictor
from .settings import Settings

STOPPED, NOT_LOADED, DEVICE_LOST = 0, 2, 3  # exit codes


BACKLOG = 2_048  # connections that wait to be accepted


class DrainingServer(uvicorn.Server):
    """The first signal makes the service unready at once and lets it finish; the second one ends it."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's own, does not raise the signal again in the end: a clean stop exits with 0."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._engine.begin_drain()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is spelled out: asyncio switches Nagle's algorithm off only where it is. Without that, the
    # body of an answer may wait 40 ms for the acknowledgement of its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def serve(settings: Settings, listener: socket.socket, predictor: Predictor | None = None) -> tuple[int, str]:
    """Serve until a signal comes or the device's thread ends. Gives exit code and a sentence, if any."""
    logs.configure(settings)
    app = create_app(settings, predictor)
    engine: Engine = app.state.engine
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = DrainingServer(config, engine)

    def give_up() -> None:
        server.should_exit = True

    engine.on_loss = give_up
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Listening on http://{shown}:{port}", file=sys.stderr, flush=True)
    server.run(sockets=[listener])
    if engine.failure:
        return NOT_LOADED, str(engine.failure)
    return (DEVICE_LOST, "the device's thread ended; see the log.") if engine.lost else (STOPPED, "")

"""Runs the application under uvicorn: signals, graceful shutdown, and the exit of the process."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from dynrefer.model import Predictor
from dynrefer.service.app import create_app
from dynrefer.service.engine.engine import Engine
from dynrefer.service.observability import logs
from dynrefer.service.server.connections import GuardedProtocol, protocol_class
from dynrefer.service.settings import Settings, SettingsError, link_variables

logger = logging.getLogger("service")

STOPPED, CUT_OFF, NOT_LOADED, DEVICE_LOST = 0, 1, 2, 3  # exit codes

BACKLOG = 2_048  # connections that wait to be accepted
OPEN_FILES = 65_536
# How long a drain waits on connections whose request may be on its way but has not arrived yet.
LINGER_S = 1.0


class DrainingServer(uvicorn.Server):
    """The first signal makes the service unready at once and lets admitted requests finish; a second one ends it."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's own, does not raise the signal again at the end: a clean stop exits with 0."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._engine.begin_drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep accepting connections, and respond 503, until no response is pending; then uvicorn's own shutdown.

        Closing at once, as uvicorn does, would cut off connections whose request is still on its way.
        """
        self._engine.begin_drain()  # not done yet where the device was lost, without a signal
        began = time.monotonic()
        grace_s = self.config.timeout_graceful_shutdown or 0
        while not self.force_exit and self._responses_pending(time.monotonic() - began < LINGER_S):
            if time.monotonic() - began >= grace_s:
                break
            await asyncio.sleep(0.02)
        self.config.timeout_graceful_shutdown = max(0, round(grace_s - (time.monotonic() - began)))
        await super().shutdown(sockets)

    def _responses_pending(self, lingering: bool) -> bool:
        """Whether any connection awaits a response. lingering: count every open connection, as it may be about to."""
        connections = [each for each in self.server_state.connections if isinstance(each, GuardedProtocol)]
        return any(lingering or each.response_pending for each in connections)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises OSError where the address is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is explicit because asyncio disables Nagle's algorithm only then. With it, a response's body may
    # wait 40 ms for the acknowledgement of its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def serve(settings: Settings, listener: socket.socket, predictor: Predictor[Any, Any] | None = None) -> tuple[int, str]:
    """Serve until a signal comes or the device is given up. Returns the exit code and why, "" for a clean stop.

    Raises SettingsError for a setting that turns out to be wrong only now.
    """
    logs.configure(settings)
    if ignored := link_variables():
        logger.info("ignored, as Kubernetes or Docker has set them and not a user: %s", ", ".join(ignored))
    app = create_app(settings, predictor, on_loss=lambda: setattr(server, "should_exit", True))
    engine: Engine = app.state.engine
    config = uvicorn.Config(
        app,
        http=protocol_class(settings.header_timeout_s),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    server = DrainingServer(config, engine)
    _allow_many_connections()
    with _metrics_port(settings, app.state.metrics.registry):
        print(f"Listening on {_address(listener)}", file=sys.stderr, flush=True)
        server.run(sockets=[listener])
    if engine.failure:
        return NOT_LOADED, str(engine.failure)
    if engine.lost:
        return DEVICE_LOST, "the device is lost; see the log."
    return (CUT_OFF, "stopped at once by a second signal.") if server.force_exit else (STOPPED, "")


@contextlib.contextmanager
def _metrics_port(settings: Settings, registry: CollectorRegistry) -> Iterator[None]:
    """Serve the metrics on a port of their own, if the settings name one."""
    if settings.metrics_port is None:
        yield
        return
    try:
        httpd, _ = start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError:
        where = f"{settings.metrics_host} port {settings.metrics_port}"
        raise SettingsError(f"cannot listen on {where} for the metrics.") from None
    print(f"Metrics on {_address(httpd.socket)}/metrics", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()


def _address(listener: socket.socket) -> str:
    if isinstance(listener.getsockname(), str):
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_many_connections() -> None:
    """Raise the limit on open files to OPEN_FILES, or as far as the system allows: every connection is one."""
    import resource  # not on Windows, where the command says so before it comes here

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def exit_process(code: int) -> NoReturn:
    """End the process, even if a thread is stuck in work that cannot be interrupted."""
    until = time.monotonic() + LINGER_S
    for thread in threading.enumerate():
        if thread.name.startswith(("device", "worker", "cpu")):
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                sys.stderr.flush()
                os._exit(code)  # a normal exit would wait for it
    raise SystemExit(code)

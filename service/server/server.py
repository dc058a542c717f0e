"""Runs the application under uvicorn: signals, graceful shutdown, and the exit of the process."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import uvicorn

from dynrefer.model import Predictor
from dynrefer.service.app import create_app
from dynrefer.service.engine.engine import Engine
from dynrefer.service.observability import logs
from dynrefer.service.observability.log_writer import finish_standard_error, replace_standard_error
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.server.acceptor import Acceptor
from dynrefer.service.server.connections import GuardedProtocol, protocol_class
from dynrefer.service.server.metrics_port import MetricsPort
from dynrefer.service.server.signals import ignore_stop_signals, stop_signals
from dynrefer.service.settings import Settings, SettingsError, link_variables

logger = logging.getLogger(__name__)

STOPPED, CUT_OFF, NOT_LOADED, DEVICE_LOST = 0, 1, 2, 3  # exit codes

BACKLOG = 2_048  # connections that wait to be accepted
OPEN_FILES = 65_536
RESERVED_FILES = 128  # for all but clients' connections: workers, images by URL, the metrics' port, the model's files
# How long a drain waits on connections whose request may be on its way but has not arrived yet.
LINGER_S = 1.0
# How long after a second signal the process is ended wherever it hangs, and what a clean end has of that.
FORCED_END_S = 3.0
FORCED_CLEANUP_S = 1.5


class DrainingServer(uvicorn.Server):
    """The first signal makes the service unready at once and lets admitted requests finish; a second one ends it.

    listeners: what clients connect to. most_connections: how many are held at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        listeners: Sequence[socket.socket] = (),
        most_connections: int = OPEN_FILES,
        metrics_port: MetricsPort | None = None,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._listeners = listeners
        self._most_connections = most_connections
        self._acceptors: list[Acceptor] = []
        self._metrics_port = metrics_port
        self.cut_off = False  # whether a second signal left requests without their answer
        self.exit_code = CUT_OFF  # where the process has to be ended before it returns one

    def handle_exit(self, sig: int, frame: FrameType | None = None) -> None:
        """A signal has come. Called in any thread; unlike uvicorn's own, does not raise the signal again at the end."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._engine.begin_drain()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`StopSignals` receives them, from before the event loop to after it."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then accept connections."""
        await super().startup(sockets=[])
        for listener in self._listeners:
            acceptor = Acceptor(listener, self.config, self.server_state, self.lifespan.state, self._most_connections)
            acceptor.start()
            self._acceptors.append(acceptor)
        if self._metrics_port is not None:
            self._metrics_port.start()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second. Whether to stop."""
        stop = await super().on_tick(counter)
        if self._metrics_port is not None:
            self._metrics_port.state.default_headers = self.server_state.default_headers  # the date
        return stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Keep accepting connections, and respond 503, until no response is pending; then uvicorn's own shutdown.

        Closing at once, as uvicorn does, would cut off connections whose request is still on its way.
        """
        self._engine.begin_drain()  # not done yet where the device was lost, without a signal
        began = time.monotonic()
        await asyncio.sleep(0.02)  # connections that wait are accepted, also after a signal that came before the start
        grace_s = self.config.timeout_graceful_shutdown or 0
        while not self.force_exit and self._responses_pending(time.monotonic() - began < LINGER_S):
            if time.monotonic() - began >= grace_s:
                break
            await asyncio.sleep(0.02)
        self.config.timeout_graceful_shutdown = max(0, round(grace_s - (time.monotonic() - began)))
        for each in self._acceptors:
            each.close()
        self.cut_off = self.force_exit and self._responses_pending(False)
        await super().shutdown()
        if self.force_exit:
            await self._cut_off()
        if self._metrics_port is not None:
            self._metrics_port.close()

    async def _cut_off(self) -> None:
        """What uvicorn leaves out after a second signal: end the requests' tasks, then the application."""
        self.cut_off = self.cut_off or self._responses_pending(False)
        for task in self.server_state.tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), FORCED_CLEANUP_S)

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


def serve(
    settings: Settings,
    listener: socket.socket,
    predictor: Predictor[Any, Any] | None = None,
    load_another: Callable[[str], Predictor[Any, Any]] | None = None,
) -> tuple[int, str]:
    """Serve until a signal comes or the device is given up. Returns the exit code and why, "" for a clean stop.

    predictor, load_another: as in `create_app`.

    Takes over the process: signals are handled and standard error never blocks from here on; `exit_process` ends it.
    Raises SettingsError for a setting that turns out to be wrong only now.
    """
    signals = stop_signals()
    writer = replace_standard_error(on_resumed=lambda lines: logger.warning("%d log lines were dropped", lines))
    logs.configure(settings)
    if ignored := link_variables():
        logger.info("ignored, as Kubernetes or Docker has set them and not a user: %s", ", ".join(ignored))
    app = create_app(settings, predictor, lambda: setattr(server, "should_exit", True), load_another)
    engine: Engine = app.state.engine
    app.state.metrics.watch_log(lambda: writer.dropped)
    config = uvicorn.Config(
        app,
        loop="asyncio",  # others take the signals' descriptor for themselves
        http=protocol_class(settings.header_timeout_s),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.shutdown_grace_s,
    )
    most_connections = _allow_many_connections()
    metrics_port = _metrics_port(settings, app.state.metrics)
    server = DrainingServer(config, engine, [listener], most_connections, metrics_port)
    signals.hand_over(lambda count: _stop(server, count))
    print(f"Listening on {_address(listener)}", file=sys.stderr, flush=True)
    server.run()
    server.exit_code, sentence = _outcome(engine, server.cut_off)
    return server.exit_code, sentence


def _outcome(engine: Engine, cut_off: bool) -> tuple[int, str]:
    """The exit code and why, "" for a clean stop."""
    if engine.failure:
        return NOT_LOADED, str(engine.failure)
    if engine.lost:
        return DEVICE_LOST, "the device is lost; see the log."
    return (CUT_OFF, "stopped at once by a second signal.") if cut_off else (STOPPED, "")


def _stop(server: DrainingServer, count: int) -> None:
    """The count-th signal has come. Called in the thread of the signals, which then may wait."""
    if count > 2:
        return
    server.handle_exit(0)
    if count == 2:
        time.sleep(FORCED_END_S)  # in vain, unless something hangs
        finish_standard_error()
        os._exit(server.exit_code)


def _metrics_port(settings: Settings, metrics: Metrics) -> MetricsPort | None:
    """Listen on a port of the metrics' own, if the settings name one."""
    if settings.metrics_port is None:
        return None
    try:
        listener = listen(settings.metrics_host, settings.metrics_port)
    except OSError:
        where = f"{settings.metrics_host} port {settings.metrics_port}"
        raise SettingsError(f"cannot listen on {where} for the metrics.") from None
    print(f"Metrics on {_address(listener)}/metrics", file=sys.stderr, flush=True)
    return MetricsPort(listener, settings, metrics)


def _address(listener: socket.socket) -> str:
    if isinstance(listener.getsockname(), str):
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_many_connections() -> int:
    """Raise the limit on open files to OPEN_FILES, or as far as the system allows: every connection is one.

    Returns how many connections that leaves room for.
    """
    import resource  # not on Windows, where the command says so before it comes here

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    return max(files - RESERVED_FILES, files // 2)


def exit_process(code: int) -> NoReturn:
    """End the process, even if a thread is stuck in work that cannot be interrupted."""
    until = time.monotonic() + LINGER_S
    for thread in threading.enumerate():
        if thread.name.startswith(("device", "worker", "cpu")):
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                finish_standard_error()
                os._exit(code)  # a normal exit would wait for it
    finish_standard_error()
    ignore_stop_signals()  # the interpreter, which takes its time to end, would let them kill the process
    raise SystemExit(code)

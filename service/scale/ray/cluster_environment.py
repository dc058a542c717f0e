"""What Ray's processes inherit when a cluster starts here: environment, signals, and where they listen.

Read in the sources of Ray 2.60. The variables are Ray's own; what has none is set where Ray looks it up.
"""

import importlib
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from dynrefer.service.settings import secret_variables

MAX_MESSAGE_CHARS = 1000
MAX_LOG_BYTES = 16 * 1024 * 1024
AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
# Ray puts the machine's own address in the place of 127.0.0.1, and then listens on every interface. On macOS and
# Windows it stays on the loopback interface, and this is its switch for that.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0"}
PATIENCE = {"RAY_py_gcs_connect_timeout_s": "5"}  # with what answers at an address and is no Ray; Ray's own are 30
LOCAL = {
    **LOOPBACK_ONLY,
    **NO_STATISTICS,
    # A Python process per core, started in advance, would wait for tasks that a service never sends.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Every process would send metrics to an agent each ten seconds, which nobody asks: /metrics is the service's own.
    "RAY_enable_metrics_collection": "0",
    # A file of each process, and one older one; Ray's own default is 3 GB a process.
    "RAY_ROTATION_MAX_BYTES": str(MAX_LOG_BYTES),
    "RAY_ROTATION_BACKUP_COUNT": "1",
    "RAY_event_stats_print_interval_ms": "0",
}


def inner(module: str) -> Any:
    """A module that Ray keeps to itself, whose types are as far as Ray wrote them: `_private.node`."""
    return importlib.import_module(f"ray.{module}")


def local_environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a local cluster starts with beside `given`; what is set there stands.

    Without a mode of authentication: a random token that stands in no file, where Ray would write ~/.ray/auth_token.
    """
    wanted = {name: value for name, value in LOCAL.items() if name not in given}
    mode = given.get(AUTH_MODE)
    if mode is None:
        wanted[AUTH_MODE] = "token"
    if (mode is None or mode.lower() == "token") and not _token_is_given(given):
        wanted[AUTH_TOKEN] = secrets.token_hex(32)
    return wanted


def _token_is_given(given: Mapping[str, str]) -> bool:
    return bool(given.get(AUTH_TOKEN) or given.get(AUTH_TOKEN_PATH))


def joined_environment(given: Mapping[str, str], host: str) -> dict[str, str]:
    """What joining a cluster at `host` needs beside `given`, whose RAY_AUTH_* stand."""
    loopback = LOOPBACK_ONLY if host in ("127.0.0.1", "localhost", "::1") else {}
    return {name: value for name, value in (NO_STATISTICS | PATIENCE | loopback).items() if name not in given}


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables inside the block, for Ray and its processes, and none of the service's secrets; behind it all is
    as before.

    So the token is not inherited by what this process starts later, and keys by no process of Ray: replicas are given
    what they need with their settings.
    """
    hidden = secret_variables(os.environ)
    # `ray.init` sets the last one.
    before = {name: os.environ.get(name) for name in (*values, *hidden, "PYTHONBREAKPOINT")}
    for name in hidden:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def read_environment_again() -> None:
    """Ray reads its variables when it is first imported, which may have been before they were set."""
    ray_constants, raylet = inner("_private.ray_constants"), inner("_raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
    # As Ray's own module does when it is imported.
    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(*LOOPBACK_ONLY, not ray_constants.IS_WINDOWS_OR_OSX)


@contextmanager
def few_processes() -> Iterator[None]:
    """A cluster that starts inside has no autoscaler, dashboard or reader of log files, and no fixed port.

    `ray.init` cannot be told so, though what it calls can.
    """
    node, parameter = inner("_private.node"), inner("_private.parameter")
    lean = partial(parameter.RayParams, no_monitor=True, include_log_monitor=False, dashboard_agent_listen_port=0)
    with ExitStack() as stack:
        stack.enter_context(_replaced(parameter, "RayParams", lean))
        stack.enter_context(_replaced(node.Node, "start_api_server", lambda *_, **__: None))
        yield


@contextmanager
def printing_replaced(by: Any) -> Iterator[None]:
    """What Ray would print to this process's standard output, in colours, is given to `by`, message by message.

    A dead raylet's message holds the end of its log: more than its beginning is in the log file only.
    """

    def lines(data: Mapping[str, Any], *_: object, **__: object) -> None:
        for line in data["lines"]:
            by(line if len(line) <= MAX_MESSAGE_CHARS else line[:MAX_MESSAGE_CHARS] + "...")

    with _replaced(inner("_private.worker"), "print_to_stdstream", lines):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    if not hasattr(owner, name):
        yield
        return
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def signals_kept() -> Iterator[None]:
    """`ray.init` inside changes no handler of ours, and the processes that it starts survive the end of a terminal.

    Ray sets a handler of SIGTERM. Its processes block SIGINT, but not SIGHUP, which a closed terminal sends to all of
    the group: they inherit that it is blocked, while this process gets it right after the block.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

"""`dynrefer serve`: the service. Its flags are the settings, so it is there only with the extra `serve`."""

import importlib.util
import inspect
import math
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated

import typer

from dynrefer.service.command_files import fail, reason
from dynrefer.service.settings import FORMER_NAMES, PREFIX, Settings, SettingsError, flag_names, load_settings


def _serve(**flags: str | None) -> None:
    """Serve the model over HTTP. Every flag can be set as an environment variable too, DYNREFER_<NAME>; a flag wins.

    SIGTERM, SIGINT and SIGHUP stop it once the admitted requests are answered, a second one at once. Exit codes: 0
    stopped; 1 a second signal left requests unanswered; 2 a setting or the model cannot be used; 3 the device is lost.
    """
    try:
        settings = load_settings({name: value for name, value in flags.items() if value is not None})
    except SettingsError as error:
        fail(str(error))
    if importlib.util.find_spec("resource") is None:
        fail("`dynrefer serve` needs Linux or macOS; on Windows run it in a container or in WSL.")
    from dynrefer.model import gc_paused

    with gc_paused():
        from dynrefer.service.scale.redis_check import check_store
        from dynrefer.service.server.server import exit_process, serve

    try:
        if unreachable := check_store(settings):
            print(f"dynrefer: {unreachable}", file=sys.stderr)
        with _cluster(settings), _listener(settings) as listener:
            code, sentence = serve(settings, listener)
    except SettingsError as error:
        fail(str(error))
    if sentence:
        print(f"dynrefer: {sentence}", file=sys.stderr)
    exit_process(code)


@contextmanager
def _cluster(settings: Settings) -> Iterator[None]:
    """What replicas run in. Raises SettingsError where it cannot be had."""
    if settings.engine != "ray":
        yield
        return
    from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster

    # Of a cluster of one's own the cores are shared out by the system; Ray counts them only, and while one model takes
    # the place of another there are replicas of both.
    most = 2 * (settings.max_replicas or settings.replicas)
    cpus = math.ceil(most * settings.replica_cpus) + 1
    wanted = ClusterSettings(
        address=settings.ray_address or None,
        cpus=cpus,
        object_store_bytes=settings.object_store_bytes or None,
    )
    with cluster(wanted):
        from dynrefer.service.scale.ray.application import require_gpus, without_leftovers

        require_gpus(settings)
        with without_leftovers(settings):
            yield


def _listener(settings: Settings) -> AbstractContextManager[socket.socket]:
    """What the service listens on, which is closed at the end. Raises SettingsError where the address is taken."""
    from dynrefer.service.server.server import listen
    from dynrefer.service.server.unix_socket import unix_socket

    if settings.unix_socket is not None:
        return unix_socket(settings.unix_socket)
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host} port {settings.port}: {reason(error)}.") from None


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command one text option per setting: `Settings` is the only place of their names and descriptions."""
    parameters, annotations = [], {}
    for name in flag_names():
        field = Settings.model_fields[name]
        default = "none" if field.default in (None, (), "") else field.default
        help_text = f"{field.description} [default: {default}; {PREFIX}{name.upper()}]"
        annotation = Annotated[
            str | None,
            typer.Option(*_flags_of(name), help=help_text, metavar="VALUE", show_default=False),
        ]
        annotations[name] = annotation
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = annotations
    return command


def _flags_of(name: str) -> list[str]:
    names = [name, *(former for former, present in FORMER_NAMES.items() if present == name)]
    return ["--" + each.replace("_", "-") for each in names]


serve_command = _with_flags(_serve)

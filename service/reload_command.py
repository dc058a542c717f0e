"""`dynrefer reload`: another model in a running service, by the key of an administrator."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dynrefer.service.command_files import fail
from dynrefer.service.remote_commands import Key, connected

if TYPE_CHECKING:
    from dynrefer.service.client.records import ReloadStatus

EXIT_NOT_LOADED, EXIT_NOT_OVER = 1, 3
DEFAULT_SERVER = "http://127.0.0.1:8000"


def reload_command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="embedded, the model that the service was started with, or a directory in its models_dir.",
            show_default=False,
        ),
    ] = None,
    previous: Annotated[bool, typer.Option("--previous", help="Roll back to the model that served before.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only say which model serves, and what is under way.")] = False,
    unload_first: Annotated[
        bool,
        typer.Option(
            "--unload-first",
            help="End the model that serves before the new one is loaded, where there is no memory for both; until "
            "then the service answers 503.",
        ),
    ] = False,
    server: Annotated[str, typer.Option("--server", metavar="URL", help="Address of the service.")] = DEFAULT_SERVER,
    key: Key = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds that the switch may take.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let another model serve, without a restart and without a failed request.

    The key, --key or DYNREFER_KEY, is one of the service's admin_keys. Exit codes: 0 the model serves; 1 it could not
    be loaded, and the one before goes on; 2 nothing was asked for that the service does; 3 it is not over in time, and
    goes on (--show says how it is).
    """
    if sum((model is not None, previous, show)) != 1:
        fail("give one of MODEL, --previous and --show.")
    from dynrefer.service.client.errors import InvalidRequest, ServerTooSlow

    with connected(server, key, timeout) as client:
        try:
            if show:
                status = client.reload_status()
            else:
                status = client.reload_model(model, previous=previous, unload_first=unload_first, timeout=timeout)
        except ServerTooSlow as error:  # of the service, or of the connection to it
            fail(str(error), EXIT_NOT_OVER)
        except InvalidRequest as error:
            if not error.type.endswith(":model-not-loaded"):
                raise
            fail(str(error), EXIT_NOT_LOADED)
    print(json.dumps(asdict(status), indent=2) if as_json else "\n".join(_lines(status)))


def _lines(status: "ReloadStatus") -> list[str]:
    serving = f"{status.model} serves"
    if status.name is not None:
        serving += f": {status.name}, revision {status.revision}"
    if status.since is not None:
        serving += f", since {status.since}"
    lines = [serving + "."]
    if status.previous is not None:
        lines.append(f"Before it {status.previous} did; `dynrefer reload --previous` loads that.")
    if status.loading is not None:
        lines.append(f"{status.loading} is being loaded.")
    if status.ending:
        lines.append("Requests are still being answered by the model before.")
    if status.last_failure is not None:
        lines.append(f"Last failure: {status.last_failure}")
    return lines

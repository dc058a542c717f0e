"""What commands do that ask a service, `describe --server URL` and `detect --server URL`, in the place of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.service.command_files import fail, reason

if TYPE_CHECKING:
    from dynrefer.model.finding import Findings
    from dynrefer.model.types import RegionDescription
    from dynrefer.service.client.client import Client

DEFAULT_TIMEOUT_S = 60.0

Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Ask the service at this address; nothing but the client is needed."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="DYNREFER_KEY", show_default=False, help="Key of the service, where it has keys."),
]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds that the service has. [default: 60]")]


def refuse_mixed_options(server: str | None, local: Mapping[str, object], remote: Mapping[str, object]) -> None:
    """End the command where an option is given that means nothing here.

    local: option -> what was given and differs from its default, of a model in this process; remote: of a service.
    """
    # DYNREFER_KEY may stand in the environment of whoever runs a model too.
    meant_for, given = ("a model in this process", local) if server is not None else ("a service", remote)
    for option, value in given.items():
        if value is not None:
            what = "leave out --server or" if server is not None else "give --server too, or leave out"
            fail(f"{option} is for {meant_for}; {what} {option}.")


@contextmanager
def connected(server: str, key: str | None, timeout: float | None) -> Iterator["Client"]:
    """A client of the service. What goes wrong with it ends the command, in one line."""
    from dynrefer.service.client import Client, ClientError

    try:
        with Client(server, key=key, timeout=DEFAULT_TIMEOUT_S if timeout is None else timeout) as client:
            yield client
    except (ClientError, ValueError) as error:  # a ValueError: no address, no key, names that are asked twice
        fail(str(error))


def read_bytes(path: Path) -> bytes:
    """An image's file as it is: the service decodes it."""
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"cannot read {path}: {reason(error)}.")


def described_by_service(
    client: "Client", image: bytes, regions: list[Any], task: Any, options: Mapping[str, Any]
) -> tuple[list["RegionDescription"], list[dict[str, Any]]]:
    """The regions as records and as the service's JSON. options: those that are None or false are left out."""
    from dynrefer.service.client.records import described
    from dynrefer.service.client.request_fields import describe_request

    given: Any = {name: value for name, value in options.items() if value}
    found = client.call(describe_request(image, regions, task, "fail", given), described)
    return list(found), [dict(each) for each in found.document["regions"]]


def found_by_service(
    client: "Client", image: bytes, names: Any, phrase: str | None, tasks: Any, options: Mapping[str, Any]
) -> tuple["Findings", dict[str, Any]]:
    """What was found, as records and as the service's JSON without what belongs to a request."""
    from dynrefer.service.client.records import found
    from dynrefer.service.client.request_fields import detect_request

    document = client.call(detect_request(image, names, phrase, tasks, options), lambda answer: answer)  # type: ignore[arg-type]
    kept = {name: document[name] for name in ("regions", "absent", "unknown_words") if name in document}
    return found(document), kept


def words_for_service(given: str | None) -> Any:
    """The words of a file, else a name that the service may know."""
    from dynrefer.model.named_vocabularies import read_named

    return read_named(Path(given)).words if given is not None and Path(given).is_file() else given

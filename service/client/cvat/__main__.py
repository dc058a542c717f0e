"""`python -m dynrefer.service.client.cvat describe TASK`: what `describing.py` does, as a command.

CVAT is reached as `cvat-cli` reaches it, with the same options and the variable CVAT_ACCESS_TOKEN.
"""

import argparse
import logging
import sys

from cvat_sdk.core.auth import configure_client_auth_arguments, make_client_from_cli
from cvat_sdk.core.exceptions import AuthStoreError
from cvat_sdk.exceptions import ApiException
from urllib3.exceptions import HTTPError

from dynrefer.service.client.cvat import connected
from dynrefer.service.client.cvat.describing import describe_task
from dynrefer.service.client.cvat.wording import SOURCES, read_wording
from dynrefer.service.client.errors import ClientError

EXIT_FAILED, EXIT_USAGE = 1, 2


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dynrefer.service.client.cvat", description=__doc__)
    configure_client_auth_arguments(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    describe = commands.add_parser("describe", help="fill the text attributes of the shapes that a task has")
    describe.add_argument("task", type=int, help="the task's number")
    describe.add_argument(
        "--attributes",
        default="caption",
        help=f"what to fill, between commas: {', '.join(SOURCES)} or kind:color; caption=remark where CVAT's has "
        "another name (default: caption)",
    )
    describe.add_argument("--overwrite", action="store_true", help="attributes that hold something too")
    describe.add_argument("--server", default="", help="the service's address (default: $DYNREFER_SERVER)")
    describe.add_argument("--key", default="", help="a key of the service (default: $DYNREFER_KEY)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code. Messages go to standard error, the outcome to standard output."""
    given = _arguments().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        wording = read_wording(given.attributes)
        if not wording:
            raise ValueError("--attributes names nothing to fill.")
        with connected(given.server, given.key) as client, make_client_from_cli(given) as cvat:
            task = cvat.tasks.retrieve(given.task)
            outcome = describe_task(task, client, wording, overwrite=given.overwrite, progress=_tell)
    except (ValueError, AuthStoreError) as error:
        _tell(f"error: {error}")
        return EXIT_USAGE
    except ClientError as error:
        _tell(f"error: the service: {error}")
        return EXIT_FAILED
    except (ApiException, HTTPError) as error:
        said = f"{error.status} {error.reason}" if isinstance(error, ApiException) else str(error)
        _tell(f"error: CVAT: {said}")
        return EXIT_FAILED
    for number, why in outcome.refused:
        _tell(f"shape {number}: {why}")
    print(outcome)
    return EXIT_FAILED if outcome.refused else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""CVAT: a function that its agent or `cvat-cli task auto-annotate` runs, and a job that describes what is there.

    cvat-cli function create-native DynRefer --function-module dynrefer.service.client.cvat -p names=str:dog,cat
    cvat-cli function run-agent ID --function-module dynrefer.service.client.cvat -p names=str:dog,cat
    python -m dynrefer.service.client.cvat describe TASK

Both run where `cvat-cli` does and ask a service over HTTP: this is a part of the client, so that what is installed
beside `cvat-cli` is `dynrefer[cvat]`, without torch. Importing this needs nothing of CVAT's; making the function does.
"""

import os
from typing import TYPE_CHECKING

from dynrefer.service.client.client import DEFAULT_URL, Client
from dynrefer.service.client.cvat.wording import read_wording

if TYPE_CHECKING:
    from dynrefer.service.client.cvat.function import DetectionFunction

__all__ = ["create"]


def create(
    names: str = "",
    attributes: str = "caption",
    label: str = "object",
    masks: bool = False,
    threshold: float | None = None,
    max_regions: int | None = None,
    server: str = "",
    key: str = "",
) -> "DetectionFunction":
    """The function, as `cvat-cli` makes it from its `-p NAME=TYPE:VALUE`.

    names: what to find, between commas; each is a label of the task. Empty: every object is found, under the one
    `label`. attributes: the labels' text attributes to fill; see `wording.read_wording`; empty for none. masks: whether
    shapes are masks and not rectangles. threshold: least score where CVAT asks for none; None: the service's own.
    server, key: of the service; without them the environment variables DYNREFER_SERVER and DYNREFER_KEY count.

    Raises ValueError for names that are asked twice, attributes that do not exist, and what is no address.
    """
    from dynrefer.service.client.cvat.function import DetectionFunction

    listed = [" ".join(name.split()) for name in names.split(",") if name.strip()]
    return DetectionFunction(
        connected(server, key), listed, read_wording(attributes), label, masks, threshold, max_regions
    )


def connected(server: str = "", key: str = "") -> Client:
    """The client of a service. Raises ValueError for what is no address or key."""
    address = server or os.environ.get("DYNREFER_SERVER") or DEFAULT_URL
    return Client(address, key=key or os.environ.get("DYNREFER_KEY") or None)

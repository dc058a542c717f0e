"""Answers that remember their image, so that they can be drawn and shown in a notebook as those of `DynRefer` can."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dynrefer.model import Findings, ModelError
from dynrefer.service.client.image_bytes import is_address
from dynrefer.service.client.records import Described, Reported, described, found, reported
from dynrefer.service.client.request_fields import Outgoing

if TYPE_CHECKING:
    from dynrefer.model import Preview


def describe_reader(
    image: Any, outgoing: Outgoing, on_region_error: str, options: Mapping[str, Any], *, thrifty: bool
) -> Callable[[Any], Described | Reported]:
    """What reads the answer to this request. thrifty: as of `preview_of`."""

    def read(document: Any) -> Described | Reported:
        preview = preview_of(image, document["image"], options.get("orientation", "upright"), thrifty=thrifty)
        make = reported if on_region_error == "report" else described
        return make(document, preview, outgoing.shapes)

    return read


def answer_about_nothing(on_region_error: str) -> Described | Reported:
    """Where no region is given: as of `DynRefer`, an empty list."""
    return Reported((), Described()) if on_region_error == "report" else Described()


def detect_reader(image: Any, options: Mapping[str, Any]) -> Callable[[Any], Findings]:
    """What reads the answer to a request that finds."""

    def read(document: Any) -> Findings:
        preview = preview_of(image, document["image"], options.get("orientation", "upright"), thrifty=False)
        return found(document, preview)

    return read


def preview_of(image: Any, size: Mapping[str, int], orientation: str, *, thrifty: bool) -> "Preview | None":
    """None where the image is not at hand, cannot be read here, or lies otherwise than the answer's coordinates.

    size: of the answer. thrifty: of many images, only those of files are remembered, by their paths.
    """
    is_path = isinstance(image, str | os.PathLike)
    if is_address(image) or orientation != "upright" or (thrifty and not is_path):
        return None
    from dynrefer.model import Preview

    try:
        return Preview.of(image, (size["width"], size["height"]))
    except (ModelError, OSError):  # a format that only the service reads
        return None

"""Bounds of a parsed document that hold before its schema is checked, because that holds the interpreter for as long as
there is something to complain about.

What has too many items is refused or shortened to just more than is accepted, so that the check of the schema and of
the limits finds what it would have found, but not thousands of times.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

from dynrefer.service.api.converse_schemas import AskedRegionIn, ConverseRequest, MessageIn
from dynrefer.service.api.detect_schemas import DescribeFound, DetectRequest
from dynrefer.service.api.schemas import DescribeRequest, ImageIn, RegionIn, Thresholds
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.settings import Settings

MAX_UNKNOWN = 20  # members of an object; the errors of no more are reported
MAX_ITEMS = 1_000  # of lists whose length no setting limits

OBJECTS = {"image": ImageIn, "thresholds": Thresholds}
LISTS = ("task", "views")


def bounded(document: Any, settings: Settings) -> Any:
    """The document with bounded numbers of members and items. Raises InvalidRequestError for too many regions, or too
    many images."""
    if not isinstance(document, dict):
        return document
    found = _bounded_members(document, (*DescribeRequest.model_fields, "images"))
    if isinstance(found.get("images"), list):
        found["images"] = _bounded_images(found["images"], settings)
    for name, schema in OBJECTS.items():
        if isinstance(found.get(name), dict):
            found[name] = _bounded_members(found[name], schema.model_fields)
    if isinstance(found.get("controls"), list):
        found["controls"] = found["controls"][: settings.max_controls + 1]
    for name in LISTS:
        if isinstance(found.get(name), list) and len(found[name]) > MAX_ITEMS:
            detail = f"{len(found[name])} items were given; at most {MAX_ITEMS} are accepted."
            raise InvalidRequestError.at(f"/{name}", detail)
    if isinstance(found.get("regions"), list):
        found["regions"] = _bounded_regions(found["regions"], settings.max_regions, RegionIn.model_fields)
    return found


def bounded_detection(document: Any, settings: Settings) -> Any:
    """The same of a request that finds. Raises InvalidRequestError for too many names."""
    if not isinstance(document, dict):
        return document
    found = _bounded_members(document, DetectRequest.model_fields)
    for name, known in (("image", ImageIn.model_fields), ("describe", DescribeFound.model_fields)):
        if isinstance(found.get(name), dict):
            found[name] = _bounded_members(found[name], known)
    if isinstance(found.get("names"), list):
        if len(found["names"]) > settings.max_find_names:
            detail = f"{len(found['names'])} names were given; at most {settings.max_find_names} are accepted."
            raise InvalidRequestError.at("/names", detail)
        found["names"] = [_bounded_name(each, settings) for each in found["names"]]
    return found


def bounded_conversation(document: Any, settings: Settings) -> Any:
    """The same of a request that asks. Raises InvalidRequestError for too many regions, messages or answers."""
    if not isinstance(document, dict):
        return document
    found = _bounded_members(document, ConverseRequest.model_fields)
    if isinstance(found.get("image"), dict):
        found["image"] = _bounded_members(found["image"], ImageIn.model_fields)
    if isinstance(found.get("regions"), list):
        found["regions"] = _bounded_regions(found["regions"], settings.max_regions, AskedRegionIn.model_fields)
    for name, most, advice in (
        ("messages", settings.max_messages, ": leave early ones out"),
        ("answers", settings.max_answers, ""),
    ):
        if isinstance(found.get(name), list) and len(found[name]) > most:
            detail = f"{len(found[name])} {name} were given; at most {most} are accepted{advice}."
            raise InvalidRequestError.at(f"/{name}", detail)
    if isinstance(found.get("messages"), list):
        known = MessageIn.model_fields
        found["messages"] = [_bounded_members(m, known) if isinstance(m, dict) else m for m in found["messages"]]
    return found


def _bounded_name(name: Any, settings: Settings) -> Any:
    if not isinstance(name, dict):
        return name
    found = _bounded_members(name, ("name", "synonyms", "not"))
    for member in ("synonyms", "not"):
        if isinstance(found.get(member), list):
            found[member] = found[member][: settings.max_find_words + 1]
    return found


def _bounded_regions(regions: list[Any], max_regions: int, known: Iterable[str]) -> list[Any]:
    if len(regions) > max_regions:
        detail = f"{len(regions)} regions were given; at most {max_regions} are accepted."
        raise InvalidRequestError.at("/regions", detail)
    return [_bounded_members(region, known) if isinstance(region, dict) else region for region in regions]


def _bounded_images(images: list[Any], settings: Settings) -> list[Any]:
    if len(images) > settings.max_images:
        detail = f"{len(images)} images were given; at most {settings.max_images} are accepted."
        raise InvalidRequestError.at("/images", detail)
    regions = [each["regions"] for each in images if isinstance(each, dict) and isinstance(each.get("regions"), list)]
    if (total := sum(map(len, regions))) > settings.max_regions:
        detail = f"{total} regions were given in all; at most {settings.max_regions} are accepted."
        raise InvalidRequestError.at("/images", detail)
    return [_bounded_members(each, DescribeRequest.model_fields) if isinstance(each, dict) else each for each in images]


def _bounded_members(members: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """A copy with all known members and at most MAX_UNKNOWN others."""
    names = frozenset(known)
    kept = {name: members[name] for name in names & members.keys()}
    unknown = islice((name for name in members if name not in names), MAX_UNKNOWN)
    kept |= {name: members[name] for name in unknown}
    return {name: members[name] for name in members if name in kept} if len(kept) == len(members) else kept

"""The body of a prediction -> what the engine is asked of each instance.

An instance is an image with its regions, or, where `parameters.endpoint` is "detect", an image alone; the parameters
are the fields of /v1/describe or /v1/detect that apply to all of them. What is wrong with the parameters refuses the
request; what is wrong with an instance is its own prediction's error.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dynrefer.model import ResolveVocabulary
from dynrefer.service.api.detect_schemas import DetectFields
from dynrefer.service.api.schemas import DescribeFields
from dynrefer.service.errors import FieldError, InvalidRequestError, ServiceError, UnsupportedMediaError
from dynrefer.service.inputs.description import ParsedImages, read_images
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.json_text import parse_json, printable
from dynrefer.service.inputs.region_prompts import BytesOf
from dynrefer.service.integrations.endpoints import endpoint_of
from dynrefer.service.settings import Settings

KEY = ("parameters", "key")  # where a key may stand: the platform passes the body on, and no header
_OWN = ("endpoint", "key")  # parameters that are no fields of a request
_OF_INSTANCES = ("image", "images", "regions")

Searches = tuple[ParsedDetection | ServiceError, ...]


@dataclass(frozen=True, slots=True)
class ParsedInstances:
    """asked: the images to describe, or of each image what is to be found on it; or why one of them cannot be."""

    asked: ParsedImages | Searches

    @property
    def num_bytes(self) -> int:
        """Of the files that it holds."""
        if isinstance(self.asked, ParsedImages):
            return self.asked.num_bytes
        return sum(each.num_bytes for each in self.asked if isinstance(each, ParsedDetection))


def read_instances(
    body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> ParsedInstances:
    """A prediction's request. CPU work. Raises InvalidRequestError for what concerns all instances."""
    parsed = parse_json(body, settings.max_json_values)
    instances, given = _members(parsed.document, settings)
    endpoint = endpoint_of(given.get("endpoint"), "/parameters/endpoint")
    for name in _OF_INSTANCES:
        if name in given:
            raise InvalidRequestError.at(f"/parameters/{name}", f"Each of the instances has its own '{name}'.")
    shared = {name: value for name, value in given.items() if name not in _OWN}
    if endpoint == "detect":
        return ParsedInstances(_searches(instances, shared, settings, resolve, parsed.bytes_of))
    try:
        images = read_images(PostedForm({**shared, "images": instances}, parsed.bytes_of), settings, resolve)
    except InvalidRequestError as error:
        raise _of_parameters(error) from None
    misplaced = [_misplaced(each, DescribeFields.model_fields, "regions") for each in instances]
    each_one = [flaw or image for flaw, image in zip(misplaced, images.images, strict=True)]
    return ParsedInstances(replace(images, images=tuple(each_one)))


def _members(document: Any, settings: Settings) -> tuple[list[Any], dict[str, Any]]:
    """The instances, at least one, and the parameters."""
    if not isinstance(document, dict):
        raise InvalidRequestError.at("", "An object with 'instances' is expected.")
    for name in document:
        if name not in ("instances", "parameters"):
            detail = f"Unknown field '{printable(name)}': beside 'instances' there is 'parameters' alone."
            raise InvalidRequestError.at(f"/{printable(name).replace('~', '~0').replace('/', '~1')}", detail)
    instances, parameters = document.get("instances"), document.get("parameters")
    if not isinstance(instances, list) or not instances:
        raise InvalidRequestError.at("/instances", "A list of at least one instance is expected.")
    if len(instances) > settings.max_images:
        detail = f"{len(instances)} instances were given; at most {settings.max_images} are accepted."
        raise InvalidRequestError.at("/instances", detail)
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequestError.at("/parameters", "An object is expected.")
    return instances, parameters or {}


def _searches(
    instances: Sequence[Any],
    shared: Mapping[str, Any],
    settings: Settings,
    resolve: ResolveVocabulary,
    bytes_of: BytesOf,
) -> Searches:
    found: list[ParsedDetection | ServiceError] = []
    for instance in instances:
        flaw = _misplaced(instance, DetectFields.model_fields)
        if flaw is None and not isinstance(instance, dict):
            flaw = InvalidRequestError.at("", "An object with an image is expected.")
        if flaw is not None:
            found.append(flaw)
            continue
        try:
            found.append(read_detection(PostedForm({**shared, **instance}, bytes_of), settings, resolve))
        except (InvalidRequestError, UnsupportedMediaError) as error:
            if any(not _is_of(each, {"image", *instance}) for each in error.fields):
                raise _of_parameters(error) from None
            found.append(error)
    return tuple(found)


def _misplaced(instance: Any, fields: Mapping[str, Any], *own: str) -> InvalidRequestError | None:
    """The error of an instance that has a field of all of them. own: the fields that are an instance's."""
    for name in instance if isinstance(instance, dict) else ():
        if name in fields and name not in own:
            return InvalidRequestError.at(f"/{name}", f"'{name}' applies to all instances: it stands in 'parameters'.")
    return None


def _is_of(flaw: FieldError, members: Collection[str]) -> bool:
    return flaw.pointer.split("/")[1:2] == [] or flaw.pointer.split("/")[1] in members


def _of_parameters(error: ServiceError) -> InvalidRequestError:
    """An error of a field of all, at its place in the parameters."""
    fields = [FieldError(f"/parameters{each.pointer}", each.detail) for each in error.fields]
    return InvalidRequestError(error.detail, fields)

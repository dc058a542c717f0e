"""A payload of Hugging Face -> a request of the service's own, with its checked fields. CPU work."""

from typing import Any

from dynrefer.model import ResolveVocabulary
from dynrefer.service.errors import InvalidRequestError, UnsupportedMediaError
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import JSON, PostedForm, check_encoding, media_type
from dynrefer.service.inputs.json_text import Json, parse_json, printable
from dynrefer.service.inputs.parsing import ParsedRequest, read_single
from dynrefer.service.inputs.query_parameters import read_detect_parameters, read_parameters
from dynrefer.service.integrations.hugging_face.tasks import HubTask, read_parameters_of
from dynrefer.service.settings import Settings

IMAGE = "image/"
# What clients send that do not know what the file is.
ANY_FILE = ("", "application/octet-stream", "binary/octet-stream")
MEMBERS = ("inputs", "parameters")


def check_headers(content_type: str, content_encoding: str) -> None:
    """Reject, before the body is read, what could not be parsed. Raises UnsupportedMediaError."""
    check_encoding(content_encoding)
    found = media_type(content_type)
    if found != JSON and found not in ANY_FILE and not found.startswith(IMAGE):
        raise UnsupportedMediaError(
            "The Content-Type must be image/* or application/octet-stream for an image's file, or application/json."
        )


def read_payload(
    task: HubTask, body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> ParsedRequest | ParsedDetection:
    """Raises InvalidRequestError and UnsupportedMediaError."""
    document = _of_query(task, query, settings)
    posted = _posted(task, body, content_type, settings, document)
    if task.finds:
        return read_detection(posted, settings, resolve)
    return read_single(posted, settings, resolve)


def _posted(task: HubTask, body: bytes, content_type: str, settings: Settings, document: dict[str, Any]) -> PostedForm:
    """The request as one of the service's own forms: the image in Base64 or its URL, or a file."""
    found = media_type(content_type)
    if found != JSON and not (found in ANY_FILE and body[:1] == b"{"):
        if not body:
            raise InvalidRequestError.at("/image", "The body is empty; it is to be the image's file.")
        return PostedForm({**document, **_merged(task, None, document, settings)}, files=[body])
    parsed = parse_json(body, settings.max_json_values, base64_members=("inputs",))
    payload = parsed.document
    if not isinstance(payload, dict):
        raise InvalidRequestError.at("", "An object with 'inputs' and 'parameters' is expected.")
    for name in payload:
        if name not in MEMBERS:
            raise InvalidRequestError.at("", f"Unknown field '{printable(name)}'; there are 'inputs' and 'parameters'.")
    members = _merged(task, payload.get("parameters"), document, settings)
    image = _image(payload.get("inputs"), parsed, settings)
    return PostedForm({**document, **members, "image": image}, parsed.bytes_of)


def _image(inputs: Any, parsed: Json, settings: Settings) -> dict[str, str]:
    """`inputs` -> the service's own member `image`; the URL is fetched, if at all, by its guard."""
    if not isinstance(inputs, str) or not inputs:
        raise InvalidRequestError.at("/inputs", "'inputs' is one image, in Base64 or as a URL.")
    if inputs not in parsed.long_texts and inputs.lower().startswith(("http://", "https://")):
        if not settings.image_url_hosts:
            detail = "This server does not fetch images; send the file itself, or 'inputs' in Base64."
            raise InvalidRequestError.at("/inputs", detail)
        return {"url": inputs}
    return {"base64": inputs}


def _of_query(task: HubTask, query: str, settings: Settings) -> dict[str, Any]:
    """What the URL's query asks: without a box, the region is the whole image. Raises InvalidRequestError."""
    document = (read_detect_parameters if task.finds else read_parameters)(query, settings)
    given = [*document, *(["id"] if any("id" in region for region in document.get("regions", ())) else [])]
    for name in given:
        if name in task.fixed:
            raise InvalidRequestError.at(f"/{name}", f"'{name}' follows from the path's task; leave it out.")
        if name in task.reserved:
            detail = f"'{name}' has no place in this task's answer; leave it out, or ask /v1/describe."
            raise InvalidRequestError.at(f"/{name}", detail)
    return document


def _merged(task: HubTask, parameters: Any, document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What the payload's parameters, and the task itself, ask beside the query. Raises InvalidRequestError."""
    members = read_parameters_of(task, parameters)
    for name in members:
        if name in document:
            raise InvalidRequestError.at(f"/{name}", f"'{name}' stands in the URL and in the payload; give it once.")
    if "vocabulary" in members and members["top_k"] > settings.max_top_k:
        raise InvalidRequestError.at("/vocabulary/categories", f"At most {settings.max_top_k} labels are accepted.")
    if task.required and task.required[1] not in {**members, **document}:
        name = task.required[0]
        raise InvalidRequestError.at(f"/{name}", f"The task {task.name} needs the parameter '{name}'.")
    return {**members, **task.fixed}

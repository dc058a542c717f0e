"""Tensors -> a request of the service's own, with its checked fields. CPU work."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from dynrefer.model import ResolveVocabulary
from dynrefer.service.errors import InvalidRequestError, UnsupportedMediaError
from dynrefer.service.inputs.bounds import bounded, bounded_detection
from dynrefer.service.inputs.description import ParsedImages, read_images
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import PostedForm, check_encoding, is_about_several, media_type
from dynrefer.service.inputs.json_text import parse_json
from dynrefer.service.inputs.parsing import ParsedRequest, read_single
from dynrefer.service.inputs.query_parameters import BOX_NOTATION, WHOLE_IMAGE
from dynrefer.service.integrations.kserve.tensors import IMAGE, REQUEST, InferRequest, read_infer_request
from dynrefer.service.settings import Settings

DESCRIBE, DETECT = "describe", "detect"
Parsed = ParsedRequest | ParsedImages | ParsedDetection


@dataclass(frozen=True, slots=True)
class Inference:
    """A parsed inference request. model: its name. shape: of the images, and so of the answer."""

    model: str
    parsed: Parsed
    id: str | None
    shape: tuple[int, ...]
    binary: bool

    @property
    def num_bytes(self) -> int:
        """Of the files that it holds."""
        return self.parsed.num_bytes


def check_headers(content_type: str, content_encoding: str) -> None:
    """Reject, before the body is read, what could not be parsed. Raises UnsupportedMediaError.

    Triton's client sends no content type.
    """
    check_encoding(content_encoding)
    found = media_type(content_type)
    if found not in ("", "application/json", "application/octet-stream"):
        raise UnsupportedMediaError("The Content-Type must be application/json or application/octet-stream.")


def read_inference(
    model: str,
    header_length: str | None,
    body: bytes,
    content_type: str,
    settings: Settings,
    query: str,
    resolve: ResolveVocabulary,
) -> Inference:
    """header_length: the header Inference-Header-Content-Length. Raises InvalidRequestError, UnsupportedMediaError."""
    given = read_infer_request(body, header_length, settings)
    parsed = _read_detect(given, settings, resolve) if model == DETECT else _read_describe(given, settings, resolve)
    return Inference(model, parsed, given.id, given.tensors[IMAGE].shape, given.binary)


def _read_describe(given: InferRequest, settings: Settings, resolve: ResolveVocabulary) -> ParsedRequest | ParsedImages:
    posted = _posted(given, settings, partial(bounded, settings=settings))
    document, count = posted.document, len(posted.files or ())
    if is_about_several(document):
        if count == 1:
            detail = "'images' is for several images; with one, its regions are 'regions'."
            raise InvalidRequestError.at("/images", detail)
        return read_images(posted, settings, resolve)
    if isinstance(document, dict) and "regions" not in document and not any(name in document for name in BOX_NOTATION):
        whole = {**WHOLE_IMAGE, **document}
        if count == 1:
            return read_single(_with(posted, whole), settings, resolve)
        regions = whole.pop("regions")
        return read_images(_with(posted, {**whole, "images": [{"regions": regions}] * count}), settings, resolve)
    if count > 1:
        detail = f"The tensor 'image' has {count} images; say in 'images' what the regions of each are."
        raise InvalidRequestError.at("/images", detail)
    return read_single(posted, settings, resolve)


def _read_detect(given: InferRequest, settings: Settings, resolve: ResolveVocabulary) -> ParsedDetection:
    posted = _posted(given, settings, partial(bounded_detection, settings=settings))
    if len(posted.files or ()) > 1:
        raise InvalidRequestError.at("/image", "Regions are found in one image at a time; send a request for each.")
    return read_detection(posted, settings, resolve)


def _posted(given: InferRequest, settings: Settings, glance: Callable[[Any], None]) -> PostedForm:
    """The request as the service's own multipart form: a JSON document and files. Without the tensor, it is empty."""
    files = given.tensors[IMAGE].elements
    if REQUEST not in given.tensors:
        return PostedForm({}, files=files, holder="The image")
    text = given.tensors[REQUEST].elements[0]
    parsed = parse_json(text, settings.max_json_values, "The tensor 'request'", glance)
    if isinstance(parsed.document, dict) and "image" in parsed.document:
        raise InvalidRequestError.at("/image", "The image is the tensor 'image', not a member of the request.")
    return PostedForm(parsed.document, parsed.bytes_of, files, "The image")


def _with(posted: PostedForm, document: Any) -> PostedForm:
    return PostedForm(document, posted.bytes_of, posted.files, posted.holder)

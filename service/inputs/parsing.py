"""A request's bytes -> validated records. Strict where JSON parsers are lenient; every error points at its field.

There are two equivalent forms: a JSON object that carries the image in Base64 or its URL, and a multipart form
with the parts `image` and `request`. Limits on sizes are checked before anything is parsed.
"""

import binascii
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dynrefer.service.api.schemas import DescribeFields, DescribeRequest, ImageIn, RegionIn, Thresholds
from dynrefer.service.errors import FieldError, InvalidRequestError, UnsupportedMediaError
from dynrefer.service.inputs.multipart import split_form
from dynrefer.service.settings import Settings

Fields = TypeVar("Fields", bound=DescribeFields)

MAX_FIELD_ERRORS = 20
ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

# Pydantic's error types, in our words.
SENTENCES = {
    "missing": "This field is required.",
    "list_type": "A list is expected.",
    "string_type": "A text is expected.",
    "string_too_short": "The text must not be empty.",
    "bool_type": "true or false is expected.",
    "int_type": "A whole number is expected.",
    "float_type": "A number is expected.",
    "finite_number": "A finite number is expected.",
    "model_type": "An object is expected.",
    "too_short": "At least one item is needed.",
    "greater_than_equal": "The number is too small.",
}


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request. image: the file's bytes, not decoded yet; empty where `url` is given instead."""

    fields: DescribeFields
    image: bytes
    url: str | None = None


def check_headers(content_type: str, content_encoding: str) -> None:
    """Reject, before the body is read, what could not be parsed. Raises UnsupportedMediaError.

    content_encoding: a list, separated by commas.
    """
    if any(coding.strip().lower() not in ("", "identity") for coding in content_encoding.split(",")):
        raise UnsupportedMediaError("A compressed body is not accepted; send it without Content-Encoding.")
    if media_type(content_type) not in ("application/json", "multipart/form-data"):
        raise UnsupportedMediaError("The Content-Type must be application/json or multipart/form-data.")


def media_type(content_type: str) -> str:
    """The media type alone, without parameters."""
    return content_type.split(";", 1)[0].strip().lower()


def read_request(body: bytes, content_type: str, settings: Settings) -> ParsedRequest:
    """Either form -> ParsedRequest. CPU work. Raises InvalidRequestError with a pointer for every error."""
    if media_type(content_type) == "multipart/form-data":
        url = None
        image, text = split_form(body, content_type)
        document = parse_json(text, settings.max_json_values)
        if isinstance(document, dict) and "image" in document:
            raise InvalidRequestError.at("/image", "In a multipart form the image is the part named 'image'.")
        fields = _validate(DescribeFields, document)
    else:
        document = parse_json(body, settings.max_json_values)
        if not settings.image_url_hosts:
            _reject_image_url(document)
        request = _validate(DescribeRequest, document)
        fields, image, url = request, *_image_of(request.image)
    _check_limits(fields, settings)
    return ParsedRequest(fields, image, url)


def parse_json(body: bytes, max_values: int) -> Any:
    """Strict JSON: UTF-8, no duplicate keys, no lone surrogates, limited depth and number of values.

    NaN, Infinity and 1e400 are accepted as floats here: the schema rejects them, with a pointer to where they are.
    Raises InvalidRequestError.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > max_values:
        raise InvalidRequestError.at("", f"The JSON holds more than {max_values} values.")
    try:
        text = body.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_unique_keys)
        if ESCAPED_SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise InvalidRequestError.at("", "The JSON is nested too deeply.") from None
    except UnicodeError:
        raise InvalidRequestError.at("", "The JSON is not valid UTF-8 text.") from None
    except ValueError:
        raise InvalidRequestError.at("", "The body is not valid JSON.") from None
    return document


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidRequestError.at("", f"The key '{_printable(duplicate)}' occurs twice in one object.")
    return members


def _reject_image_url(document: Any) -> None:
    image = document.get("image") if isinstance(document, dict) else None
    if isinstance(image, dict) and "url" in image:
        raise InvalidRequestError.at("/image/url", "This server does not support 'url'; send 'base64'.")


def _image_of(image: ImageIn) -> tuple[bytes, str | None]:
    """(bytes, None) or (b"", URL)."""
    if image.base64 is not None and image.url is not None:
        raise InvalidRequestError.at("/image", "Give either 'base64' or 'url', not both.")
    if image.base64 is not None:
        return _decode_base64(image.base64), None
    if image.url is None:
        raise InvalidRequestError.at("/image/base64", "This field is required.")
    return b"", image.url


def _decode_base64(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except (binascii.Error, UnicodeEncodeError):
        hint = " without the 'data:' prefix" if text.startswith("data:") else ""
        raise InvalidRequestError.at("/image/base64", f"This is not standard Base64{hint}.") from None


def _validate(schema: type[Fields], document: Any) -> Fields:
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        _reject([_field_error(each) for each in error.errors(include_url=False)[:MAX_FIELD_ERRORS]])


def _reject(errors: Sequence[FieldError]) -> NoReturn:
    """All errors at once; a single one is the summary too."""
    summary = errors[0].detail if len(errors) == 1 else f"The request has {len(errors)} errors."
    raise InvalidRequestError(summary, errors)


def _field_error(error: ErrorDetails) -> FieldError:
    location = error["loc"]
    pointer = "".join(f"/{_escaped(part)}" for part in location)
    kind = error["type"]
    if kind == "refused":
        return FieldError(pointer, str(error["ctx"]["detail"]))
    if kind == "extra_forbidden":
        return FieldError(pointer, _unknown_field(location))
    if kind == "literal_error":
        return FieldError(pointer, f"The value must be one of {error['ctx']['expected']}.")
    return FieldError(pointer, SENTENCES.get(kind, "This value is not valid."))


def _unknown_field(location: Sequence[int | str]) -> str:
    """Names the field and, if one is similar, a field that exists at that place."""
    places: Mapping[str, type] = {"regions": RegionIn, "image": ImageIn, "thresholds": Thresholds}
    schema = places.get(str(location[0]), DescribeRequest) if len(location) > 1 else DescribeRequest
    name = str(location[-1])
    nearest = difflib.get_close_matches(name[:64], schema.model_fields, n=1)  # type: ignore[attr-defined]
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"Unknown field '{_printable(name)}'.{hint}"


def _check_limits(fields: DescribeFields, settings: Settings) -> None:
    """The limits that the settings choose, and duplicate ids."""
    errors = []
    if len(fields.regions) > settings.max_regions:
        detail = f"{len(fields.regions)} regions were given; at most {settings.max_regions} are accepted."
        raise InvalidRequestError.at("/regions", detail)
    if fields.top_k > settings.max_top_k:
        errors.append(FieldError("/top_k", f"top_k is at most {settings.max_top_k}."))
    controls = fields.controls or []
    if len(controls) > settings.max_controls:
        errors.append(FieldError("/controls", f"At most {settings.max_controls} control words are accepted."))
    for index, word in enumerate(controls[: settings.max_controls]):
        if len(word) > settings.max_control_chars or not word.strip():
            detail = f"A control word has 1 to {settings.max_control_chars} characters, not only spaces."
            errors.append(FieldError(f"/controls/{index}", detail))
    errors.extend(_check_ids(fields.regions, settings.max_id_chars))
    if errors:
        _reject(errors[:MAX_FIELD_ERRORS])


def _check_ids(regions: Sequence[RegionIn], max_chars: int) -> list[FieldError]:
    """A missing id is the region's index and may equal a given one; the error is the later region's."""
    errors, seen = [], set()
    for index, region in enumerate(regions):
        name = region_id(region, index)
        if len(name) > max_chars:
            errors.append(FieldError(f"/regions/{index}/id", f"An id has at most {max_chars} characters."))
        elif name in seen:
            errors.append(
                FieldError(f"/regions/{index}/id", f"The id '{_printable(name)}' is taken by an earlier region.")
            )
        seen.add(name)
    return errors


def region_id(region: RegionIn, index: int) -> str:
    """The region's id in the response: the given one, else its index."""
    return str(index) if region.id is None else region.id


def _escaped(part: int | str) -> str:
    return _printable(str(part)).replace("~", "~0").replace("/", "~1")


def _printable(text: str) -> str:
    """A client's text, shortened and encodable, for use in an error message."""
    return text[:64].encode("utf-8", "replace").decode("utf-8")

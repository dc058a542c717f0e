"""The three forms of a request about an image, whatever is asked of it: a JSON object that carries the image in Base64
or its URL, a multipart form with the parts `image` and `request`, and the image's bytes alone with everything else as
query parameters. What a form means is read here; its fields are validated by `parsing.py` and `detection.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.service.api.schemas import ImageIn
from dynrefer.service.errors import FieldError, InvalidRequestError, UnsupportedMediaError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64, is_base64_of_an_image
from dynrefer.service.inputs.json_text import parse_json
from dynrefer.service.inputs.multipart import split_form
from dynrefer.service.inputs.region_prompts import BytesOf
from dynrefer.service.settings import Settings

JSON, FORM, IMAGE = "application/json", "multipart/form-data", "image/"


@dataclass(frozen=True, slots=True)
class PostedForm:
    """A request as it was posted. document: its fields, not validated. bytes_of: a text of the document -> its bytes.

    files: of the images, where they stand beside the document; None where they are members of it.
    holder: what holds a file, as the subject of a sentence.
    """

    document: Any
    bytes_of: BytesOf = str.encode
    files: Sequence[bytes] | None = None
    holder: str = "The body"

    def checked_file(self, place: int = 0) -> bytes:
        """One of the files. Raises InvalidRequestError where it is empty, UnsupportedMediaError where it is a text."""
        file = self.files[place] if self.files else b""
        if not file:
            raise InvalidRequestError.at("/image", f"{self.holder} is empty.")
        if is_base64_of_an_image(file):
            detail = f"{self.holder} holds Base64 text; send the bytes of the image's file."
            raise UnsupportedMediaError(detail, [FieldError("/image", detail)])
        return file

    def image_of(self, given: ImageIn) -> tuple[bytes, str | None]:
        """(bytes, None) or (b"", URL) of the document's member. Raises InvalidRequestError."""
        if given.base64 is not None and given.url is not None:
            raise InvalidRequestError.at("/image", "Give either 'base64' or 'url', not both.")
        if given.base64 is not None:
            return _decoded(self.bytes_of(given.base64)), None
        if given.url is None:
            raise InvalidRequestError.at("/image/base64", "This field is required.")
        return b"", given.url


def check_encoding(content_encoding: str) -> None:
    """Refuse a compressed body. content_encoding: of all such headers, joined by commas.

    Raises UnsupportedMediaError.
    """
    if {coding.strip().lower() for coding in content_encoding.split(",")} - {"", "identity"}:
        raise UnsupportedMediaError("A compressed body is not accepted; send it without Content-Encoding.")


def check_json_headers(content_type: str, content_encoding: str) -> None:
    """As `check_headers`, where a body can be nothing but JSON."""
    check_encoding(content_encoding)
    if media_type(content_type) != JSON:
        raise UnsupportedMediaError("The Content-Type must be application/json.")


def check_headers(content_type: str, content_encoding: str) -> None:
    """Reject, before the body is read, what could not be parsed. Raises UnsupportedMediaError.

    content_encoding: of all such headers, joined by commas.
    """
    check_encoding(content_encoding)
    found = media_type(content_type)
    if found not in (JSON, FORM) and not (found.startswith(IMAGE) and found != IMAGE):
        raise UnsupportedMediaError("The Content-Type must be application/json, multipart/form-data or image/*.")


def read_form(
    body: bytes,
    content_type: str,
    settings: Settings,
    query: str,
    parameters: Callable[[str, Settings], dict[str, Any]],
    glance: Callable[[Any], None],
) -> PostedForm:
    """Any of the forms -> PostedForm. CPU work.

    query: the URL's, which an image alone has its fields in. parameters: it -> the document that it stands for.
    glance: see `parse_json`. Raises InvalidRequestError and UnsupportedMediaError.
    """
    found = media_type(content_type)
    if found == FORM:
        files, text = split_form(body, content_type, settings.max_images)
        parsed = parse_json(text, settings.max_json_values, "The part 'request'", glance)
        if isinstance(parsed.document, dict) and "image" in parsed.document:
            raise InvalidRequestError.at("/image", "In a multipart form the image is the part named 'image'.")
        if len(files) > 1 and not is_about_several(parsed.document):
            detail = "The form has several parts 'image'; say in 'images' what the regions of each are."
            raise InvalidRequestError.at("/image", detail)
        return PostedForm(parsed.document, parsed.bytes_of, files, "The part 'image'")
    if found == JSON:
        parsed = parse_json(body, settings.max_json_values, glance=glance)
        if not settings.image_url_hosts:
            _reject_urls(parsed.document)
        return PostedForm(parsed.document, parsed.bytes_of)
    document = parameters(query, settings)
    if not body:
        raise InvalidRequestError.at("/image", "The body is empty; it is to be the image.")
    return PostedForm(document, files=[body])


def is_about_several(document: Any) -> bool:
    """Whether a request's document has `images` in the place of `image`."""
    return isinstance(document, dict) and "images" in document


def media_type(content_type: str) -> str:
    """The media type alone, without parameters."""
    return content_type.split(";", 1)[0].strip().lower()


def _reject_urls(document: Any) -> None:
    items = document.get("images") if is_about_several(document) else [document]
    for place, item in enumerate(items if isinstance(items, list) else ()):
        image = item.get("image") if isinstance(item, dict) else None
        if isinstance(image, dict) and "url" in image:
            pointer = f"/images/{place}/image/url" if is_about_several(document) else "/image/url"
            raise InvalidRequestError.at(pointer, "This server does not support 'url'; send 'base64'.")


def _decoded(text: bytes) -> bytes:
    try:
        image = decode_base64(text)
    except Base64Error as error:
        raise InvalidRequestError.at("/image/base64", f"This is not standard Base64: the text {error}.") from None
    if not image:
        raise InvalidRequestError.at("/image/base64", "The image is empty.")
    return image

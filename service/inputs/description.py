"""A request that describes, in any of its forms -> validated records: about one image, or about several.

Of several images, what is wrong with the fields that all of them share refuses the request; what is wrong with one
image, or with its regions, is the error of that image alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dynrefer.model import ResolveVocabulary, no_names
from dynrefer.service.api.schemas import DescribeFields, DescribeRequest
from dynrefer.service.errors import InvalidRequestError, ServiceError, UnsupportedMediaError
from dynrefer.service.inputs.bounds import bounded
from dynrefer.service.inputs.forms import PostedForm, is_about_several, read_form
from dynrefer.service.inputs.parsing import ParsedRequest, checked_fields, read_single
from dynrefer.service.inputs.query_parameters import read_parameters
from dynrefer.service.settings import Settings

# Stands for the regions where the shared fields are checked.
_REGIONS = {"regions": [{"box": [0, 0, 1, 1]}]}
# Shared fields that say how an image's regions are read.
_OF_REGIONS = ("box_format", "coordinates", "normalized", "on_region_error", "explain")


def read_request(
    body: bytes, content_type: str, settings: Settings, query: str = "", resolve: ResolveVocabulary = no_names
) -> "ParsedRequest | ParsedImages":
    """A request that describes, in any of its forms. CPU work.

    query: the URL's, which an image alone has its fields in. resolve: the name of a vocabulary -> it.
    Raises InvalidRequestError with a pointer for every error, and UnsupportedMediaError.
    """
    posted = read_form(body, content_type, settings, query, read_parameters, partial(bounded, settings=settings))
    if is_about_several(posted.document):
        return read_images(posted, settings, resolve)
    return read_single(posted, settings, resolve)


@dataclass(frozen=True, slots=True)
class ParsedImages:
    """shared: the fields that apply to all images; its regions stand for any. images: in order, or why one fails: an
    error as of a request about that image alone, its pointers too."""

    shared: DescribeFields
    images: tuple[ParsedRequest | ServiceError, ...]

    @property
    def num_bytes(self) -> int:
        """Of the files that it holds."""
        return sum(each.num_bytes for each in self.images if isinstance(each, ParsedRequest))


def read_images(posted: PostedForm, settings: Settings, resolve: ResolveVocabulary) -> ParsedImages:
    """A request about several images. Raises InvalidRequestError for what concerns all of them."""
    document = bounded(posted.document, settings)
    items = document["images"]
    for member in ("image", "regions"):
        if member in document:
            detail = f"Beside 'images' there is no '{member}': each of the images has its own."
            raise InvalidRequestError.at(f"/{member}", detail)
    if not isinstance(items, list) or not items:
        raise InvalidRequestError.at("/images", "A list of at least one image is expected.")
    if posted.files is not None and len(posted.files) != len(items):
        parts = f"{len(posted.files)} {'part' if len(posted.files) == 1 else 'parts'} 'image'"
        detail = f"The form has {parts} for {len(items)} items of 'images'; send one for each, in order."
        raise InvalidRequestError.at("/images", detail)
    given = {name: value for name, value in document.items() if name != "images"}
    shared, _ = checked_fields(DescribeFields, {**given, **_REGIONS}, settings, resolve, posted.bytes_of)
    of_regions = {name: given[name] for name in _OF_REGIONS if name in given}
    read = [_read(place, item, posted, of_regions, shared, settings, resolve) for place, item in enumerate(items)]
    return ParsedImages(shared, tuple(read))


def _read(
    place: int,
    item: Any,
    posted: PostedForm,
    of_regions: Mapping[str, Any],
    shared: DescribeFields,
    settings: Settings,
    resolve: ResolveVocabulary,
) -> ParsedRequest | ServiceError:
    try:
        _check_members(item, with_image=posted.files is None)
        schema = DescribeFields if posted.files is not None else DescribeRequest
        fields, errors = checked_fields(schema, {**of_regions, **item}, settings, resolve, posted.bytes_of)
        if isinstance(fields, DescribeRequest):
            image, url = posted.image_of(fields.image)
        else:
            image, url = posted.checked_file(place), None
    except (InvalidRequestError, UnsupportedMediaError) as error:
        return error
    whole = shared.model_copy(update={"regions": fields.regions})
    return ParsedRequest(whole, image, url, errors, f"/images/{place}")


def _check_members(item: Any, with_image: bool) -> None:
    """Raises InvalidRequestError with pointers below the item."""
    if not isinstance(item, dict):
        raise InvalidRequestError.at("", "An object with an image and its regions is expected.")
    if "image" in item and not with_image:
        detail = "In a multipart form the images are the parts named 'image', in order."
        raise InvalidRequestError.at("/image", detail)
    for name in item:
        if name in DescribeFields.model_fields and name != "regions":
            detail = f"'{name}' applies to all images: it stands beside 'images'."
            raise InvalidRequestError.at(f"/{name}", detail)

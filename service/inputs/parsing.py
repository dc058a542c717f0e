"""A request that describes regions, in any of its forms (`forms.py`) -> validated records.

Every error points at its field. Limits on sizes are checked before anything is validated.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dynrefer.model import MaskFile, ResolveVocabulary, ViewPolicy
from dynrefer.service.api.converse_schemas import AskedRegionIn, ConverseFields
from dynrefer.service.api.explanation_schemas import MOST_THUMBNAIL_REGIONS, ExplainIn
from dynrefer.service.api.schemas import NO_BOX, DescribeFields, DescribeRequest, ImageIn, RegionIn, Thresholds
from dynrefer.service.errors import FieldError, InvalidRequestError
from dynrefer.service.inputs.bounds import bounded
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.inputs.own_words import read_own_words
from dynrefer.service.inputs.region_prompts import BytesOf, read_region_prompts
from dynrefer.service.settings import Settings

Fields = TypeVar("Fields", bound=DescribeFields)

MAX_FIELD_ERRORS = 20  # besides the first one of each region

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
    "greater_than": "The number is too small.",
    "less_than": "The number is too large.",
}

# Of a request and of the objects in it.
SCHEMAS: Mapping[str, type[BaseModel]] = {
    "": DescribeRequest,
    "regions": RegionIn,
    "image": ImageIn,
    "thresholds": Thresholds,
    "explain": ExplainIn,
}

RegionErrors = Mapping[int, Sequence[FieldError]]


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed request. image: the file's bytes, not decoded yet; empty where `url` is given instead.

    region_errors: what is wrong with regions, by their places, where `on_region_error` is "report". at: where in the
    request its image and its regions stand, a JSON pointer.
    """

    fields: DescribeFields
    image: bytes
    url: str | None = None
    region_errors: RegionErrors = field(default_factory=dict)
    at: str = ""

    @property
    def num_bytes(self) -> int:
        """Of the files that it holds."""
        return len(self.image) + sum(len(r.mask.png) for r in self.fields.regions if isinstance(r.mask, MaskFile))


def read_single(posted: PostedForm, settings: Settings, resolve: ResolveVocabulary) -> ParsedRequest:
    """A request about one image. Raises InvalidRequestError with a pointer for every error, and UnsupportedMediaError.

    resolve: the name of a vocabulary -> it.
    """
    if posted.files is not None:
        fields, errors = checked_fields(DescribeFields, posted.document, settings, resolve, posted.bytes_of)
        return ParsedRequest(fields, posted.checked_file(), region_errors=errors)
    request, errors = checked_fields(DescribeRequest, posted.document, settings, resolve, posted.bytes_of)
    return ParsedRequest(request, *posted.image_of(request.image), errors)


def checked_fields(
    schema: type[Fields], document: Any, settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf
) -> tuple[Fields, RegionErrors]:
    """The fields, and the errors of regions where those are to be reported. Raises InvalidRequestError."""
    document = bounded(document, settings)
    fields, by_schema = _validate(schema, document)
    vocabulary, errors = read_own_words(fields.vocabulary, settings, resolve)
    regions, flaws = read_region_prompts(fields.regions, settings, bytes_of)
    fields = fields.model_copy(update={"vocabulary": vocabulary, "regions": regions})
    errors += flaws + _check_limits(fields, settings)
    reported = fields.on_region_error == "report" and all(each.pointer.startswith("/regions/") for each in errors)
    if errors and not reported:
        reject(chosen(errors))
    if not errors:
        return fields, by_schema
    failed = _by_region(errors)
    cut = [
        _without_flaws(region, settings.max_id_chars) if place in failed else region
        for place, region in enumerate(fields.regions)
    ]
    return fields.model_copy(update={"regions": cut}), {**failed, **by_schema}


def _without_flaws(region: RegionIn, max_chars: int) -> RegionIn:
    """What stands for a region that is not valid: nothing to describe, and so much of its id as may be answered."""
    name = None if region.id is None else region.id[:max_chars]
    return RegionIn.model_validate({"box": NO_BOX}).model_copy(update={"id": name})


def _validate(schema: type[Fields], document: Any) -> tuple[Fields, RegionErrors]:
    try:
        return schema.model_validate(document), {}
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    reported = isinstance(document, dict) and document.get("on_region_error") == "report"
    if not reported or not all(map(_is_of_region, details)):
        reject(field_errors(details))
    errors = _by_region(field_errors(details))
    regions = [
        {"box": NO_BOX, **_given_id(region)} if index in errors else region
        for index, region in enumerate(document["regions"])
    ]
    return schema.model_validate({**document, "regions": regions}), errors


def _is_of_region(error: ErrorDetails) -> bool:
    return error["loc"][:1] == ("regions",) and len(error["loc"]) > 1


def _given_id(region: Any) -> dict[str, str]:
    """What a region that is not valid is called in the answer: its id, where that is one."""
    name = region.get("id") if isinstance(region, dict) else None
    return {"id": name} if isinstance(name, str) and name else {}


def _by_region(errors: Iterable[FieldError]) -> dict[int, list[FieldError]]:
    """Errors at /regions/INDEX/..., by the index."""
    found: dict[int, list[FieldError]] = {}
    for error in errors:
        found.setdefault(int(error.pointer.split("/")[2]), []).append(error)
    return found


def reject(errors: Sequence[FieldError]) -> NoReturn:
    """All errors at once; a single one is the summary too."""
    summary = errors[0].detail if len(errors) == 1 else f"The request has {len(errors)} errors."
    raise InvalidRequestError(summary, errors)


def field_errors(details: Sequence[ErrorDetails], schemas: Mapping[str, type[BaseModel]] = SCHEMAS) -> list[FieldError]:
    """Pydantic's complaints as ours. schemas: of the document, "", and of the objects in it, by the member."""
    places = ["/".join(map(str, ("", *error["loc"][:2]))) for error in details]
    return [_field_error(details[index], schemas) for index in _chosen_places(places)]


def chosen(errors: Sequence[FieldError]) -> list[FieldError]:
    """Those that are reported."""
    return [errors[index] for index in _chosen_places([error.pointer for error in errors])]


def _chosen_places(pointers: Sequence[str]) -> list[int]:
    """Which of the errors are reported: the first few, and the first one of each region, so that none is missed."""
    chosen, regions = [], set()
    for index, pointer in enumerate(pointers):
        region = tuple(pointer.split("/")[1:3])
        if index < MAX_FIELD_ERRORS or (region[0] == "regions" and region not in regions):
            chosen.append(index)
        regions.add(region)
    return chosen


def _field_error(error: ErrorDetails, schemas: Mapping[str, type[BaseModel]]) -> FieldError:
    location = error["loc"]
    pointer = "".join(f"/{_escaped(part)}" for part in location)
    kind = error["type"]
    if kind == "refused":
        return FieldError(pointer, str(error["ctx"]["detail"]))
    if kind == "extra_forbidden":
        return FieldError(pointer, _unknown_field(location, schemas))
    if kind == "literal_error":
        return FieldError(pointer, f"The value must be one of {error['ctx']['expected']}.")
    if kind == "less_than_equal":
        return FieldError(pointer, f"The number is too large: at most {error['ctx']['le']:g} is accepted.")
    return FieldError(pointer, SENTENCES.get(kind, "This value is not valid."))


def _unknown_field(location: Sequence[int | str], schemas: Mapping[str, type[BaseModel]]) -> str:
    """Names the field and, if one is similar, a field that exists at that place."""
    whole = schemas[""]
    schema = schemas.get(str(location[0]), whole) if len(location) > 1 else whole
    name = str(location[-1])
    known = [field.alias or key for key, field in schema.model_fields.items()]
    nearest = difflib.get_close_matches(name[:64], known, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"Unknown field '{printable(name)}'.{hint}"


def _check_limits(fields: DescribeFields, settings: Settings) -> list[FieldError]:
    """The limits that the settings choose, fields that contradict each other, and duplicate ids."""
    errors = notation_flaws(fields)
    if fields.top_k > settings.max_top_k:
        errors.append(FieldError("/top_k", f"top_k is at most {settings.max_top_k}."))
    controls = fields.controls or []
    if len(controls) > settings.max_controls:
        errors.append(FieldError("/controls", f"At most {settings.max_controls} control words are accepted."))
    for index, word in enumerate(controls[: settings.max_controls]):
        if len(word) > settings.max_control_chars or not word.strip():
            detail = f"A control word has 1 to {settings.max_control_chars} characters, not only spaces."
            errors.append(FieldError(f"/controls/{index}", detail))
    errors += _check_views(fields)
    return errors + _check_search(fields, settings) + _check_ids(fields.regions, settings.max_id_chars)


def notation_flaws(fields: DescribeFields | ConverseFields) -> list[FieldError]:
    """Members that say different things of how boxes are written."""
    if fields.normalized and "coordinates" in fields.model_fields_set and fields.coordinates != "unit":
        detail = "'normalized': true means the coordinates 'unit'; leave it out beside others."
        return [FieldError("/normalized", detail)]
    return []


def _check_views(fields: DescribeFields) -> list[FieldError]:
    """A policy by force that contradicts the views, and explanations that would be too large."""
    errors = []
    if fields.view_policy is not None and (fault := ViewPolicy(fields.view_policy).contradiction(fields.views)):
        errors.append(FieldError("/view_policy", fault))
    if fields.explain is not None and fields.explain.thumbnails and len(fields.regions) > MOST_THUMBNAIL_REGIONS:
        detail = f"Thumbnails are made for at most {MOST_THUMBNAIL_REGIONS} regions of a request; ask for fewer."
        errors.append(FieldError("/explain/thumbnails", detail))
    return errors


def _check_search(fields: DescribeFields, settings: Settings) -> list[FieldError]:
    """The limits of the caption's search."""
    errors = []
    if fields.num_captions > settings.max_captions:
        errors.append(FieldError("/num_captions", f"num_captions is at most {settings.max_captions}."))
    if fields.num_beams is not None and fields.num_beams > settings.max_beams:
        errors.append(FieldError("/num_beams", f"num_beams is at most {settings.max_beams}."))
    elif fields.num_beams is not None and fields.num_beams < fields.num_captions:
        detail = f"{fields.num_captions} captions need at least so many beams; leave num_beams out, or raise it."
        errors.append(FieldError("/num_beams", detail))
    return errors


def _check_ids(regions: Sequence[RegionIn], max_chars: int) -> list[FieldError]:
    """A missing id is the region's index and may equal a given one; the error is the later region's."""
    errors, seen = [], set()
    for index, region in enumerate(regions):
        name = region_id(region, index)
        if len(name) > max_chars:
            errors.append(FieldError(f"/regions/{index}/id", f"An id has at most {max_chars} characters."))
        elif name in seen:
            errors.append(
                FieldError(f"/regions/{index}/id", f"The id '{printable(name)}' is taken by an earlier region.")
            )
        seen.add(name)
    return errors


def region_id(region: RegionIn | AskedRegionIn, index: int) -> str:
    """The region's id, in messages and in the response: the given one, else its index."""
    return str(index) if region.id is None else region.id


def _escaped(part: int | str) -> str:
    return printable(str(part)).replace("~", "~0").replace("/", "~1")

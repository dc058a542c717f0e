"""A request that finds, in any of its three forms -> validated records. Everything that it has in common with one that
describes is read as that is (`parsing.py`), the member `describe` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dynrefer.model import AskedName, FindQuery, ResolveVocabulary, no_names
from dynrefer.service.api.detect_schemas import DescribeFound, DetectFields, DetectRequest, NameIn
from dynrefer.service.api.schemas import DescribeFields, ImageIn
from dynrefer.service.errors import FieldError, InvalidRequestError
from dynrefer.service.inputs.bounds import bounded_detection
from dynrefer.service.inputs.forms import PostedForm, read_form
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.inputs.parsing import checked_fields, field_errors, reject
from dynrefer.service.inputs.query_parameters import read_detect_parameters
from dynrefer.service.settings import Settings

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "": DetectRequest,
    "image": ImageIn,
    "names": NameIn,
    "describe": DescribeFound,
}
Fields = TypeVar("Fields", bound=DetectFields)

# Stands for the regions, which are not known yet.
_REGIONS = {"regions": [{"box": [0, 0, 1, 1]}]}


@dataclass(frozen=True, slots=True)
class ParsedDetection:
    """A parsed request. image: the file's bytes; empty where `url` is given instead. describe: the fields of a request
    about the regions that will be found, None where they are not to be described."""

    fields: DetectFields
    query: FindQuery
    describe: DescribeFields | None
    image: bytes
    url: str | None = None

    @property
    def num_bytes(self) -> int:
        """Of the file that it holds."""
        return len(self.image)


def read_detect_request(
    body: bytes, content_type: str, settings: Settings, query: str = "", resolve: ResolveVocabulary = no_names
) -> ParsedDetection:
    """Any of the forms -> ParsedDetection. CPU work; arguments and errors as of `parsing.read_request`."""
    glance = partial(bounded_detection, settings=settings)
    posted = read_form(body, content_type, settings, query, read_detect_parameters, glance)
    return read_detection(posted, settings, resolve)


def read_detection(posted: PostedForm, settings: Settings, resolve: ResolveVocabulary) -> ParsedDetection:
    """A request that finds. Raises InvalidRequestError with a pointer for every error, and UnsupportedMediaError."""
    if posted.files is not None:
        fields = _checked(DetectFields, posted.document, settings)
        return _read(fields, posted.document, posted.checked_file(), None, settings, resolve)
    request = _checked(DetectRequest, posted.document, settings)
    return _read(request, posted.document, *posted.image_of(request.image), settings, resolve)


def _checked(schema: type[Fields], document: Any, settings: Settings) -> Fields:
    """The fields. Raises InvalidRequestError."""
    try:
        fields = schema.model_validate(bounded_detection(document, settings))
    except ValidationError as error:
        reject(field_errors(error.errors(include_url=False, include_input=False), SCHEMAS))
    if errors := _flaws(fields, settings):
        reject(errors)
    return fields


def _read(
    fields: DetectFields,
    document: dict[str, Any],
    image: bytes,
    url: str | None,
    settings: Settings,
    resolve: ResolveVocabulary,
) -> ParsedDetection:
    query = FindQuery(
        names=tuple(AskedName(each.name, tuple(each.synonyms), tuple(each.not_)) for each in fields.names or ()),
        phrase=fields.phrase,
        threshold=fields.threshold,
        nms=fields.nms,
        max_regions=min(fields.max_regions, settings.found_regions),
        masks=fields.masks,
    )
    describe = None
    if fields.describe is not None:
        describe = _describe(document["describe"], fields, settings, resolve)
    return ParsedDetection(fields, query, describe, image, url)


def _describe(
    given: dict[str, Any], fields: DetectFields, settings: Settings, resolve: ResolveVocabulary
) -> DescribeFields:
    """What is asked of each region; every error points into `describe`."""
    document = {**given, **_REGIONS, "orientation": fields.orientation, "language": fields.language}
    try:
        return checked_fields(DescribeFields, document, settings, resolve, str.encode)[0]
    except InvalidRequestError as error:
        reject([FieldError(f"/describe{each.pointer}", each.detail) for each in error.fields])


def _flaws(fields: DetectFields, settings: Settings) -> list[FieldError]:
    """The limits that the settings choose, fields that contradict each other, and names that are asked twice."""
    errors = []
    if fields.names is not None and fields.phrase is not None:
        errors.append(FieldError("/phrase", "Give either 'names' or 'phrase', not both."))
    if fields.names is not None and not fields.names:
        detail = "The list is empty: give a name, or leave 'names' out to find everything."
        errors.append(FieldError("/names", detail))
    if fields.phrase is not None and not fields.phrase.strip():
        errors.append(FieldError("/phrase", "The sentence is empty: give some words, or leave 'phrase' out."))
    elif fields.phrase is not None and len(fields.phrase) > settings.max_phrase_chars:
        errors.append(FieldError("/phrase", f"A sentence has at most {settings.max_phrase_chars} characters."))
    if "max_regions" in fields.model_fields_set and fields.max_regions > settings.found_regions:
        errors.append(FieldError("/max_regions", f"max_regions is at most {settings.found_regions}."))
    return errors + _name_flaws(fields.names or [], settings)


def _name_flaws(names: list[NameIn], settings: Settings) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: dict[str, str] = {}
    for index, name in enumerate(names):
        words = [(f"/names/{index}", name.name)]
        words += [(f"/names/{index}/synonyms/{place}", word) for place, word in enumerate(name.synonyms)]
        for pointer, word in words:
            first = seen.setdefault(" ".join(word.split()).casefold(), pointer)
            if first != pointer:
                errors.append(FieldError(pointer, f"'{printable(word)}' is asked twice: {first} has it too."))
        words += [(f"/names/{index}/not/{place}", word) for place, word in enumerate(name.not_)]
        own = {" ".join(word.split()).casefold() for word in (name.name, *name.synonyms)}
        for place, word in enumerate(name.not_):
            if " ".join(word.split()).casefold() in own:
                detail = f"'{printable(word)}' cannot be meant and not meant."
                errors.append(FieldError(f"/names/{index}/not/{place}", detail))
        for member in ("synonyms", "not"):
            if len(name.synonyms if member == "synonyms" else name.not_) > settings.max_find_words:
                detail = f"At most {settings.max_find_words} words are accepted."
                errors.append(FieldError(f"/names/{index}/{member}", detail))
        for pointer, word in words:
            if not word.strip() or len(word) > settings.max_vocabulary_chars:
                detail = f"A name has 1 to {settings.max_vocabulary_chars} characters, not only spaces."
                errors.append(FieldError(pointer, detail))
    return errors

"""A request that asks about an image, in any of its three forms -> validated records. Everything that it has in common
with one that describes is read as that is (`parsing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from dynrefer.model import (
    Conversation,
    MaskFile,
    Message,
    ResolveVocabulary,
    Role,
    conversation_flaws,
    no_names,
)
from dynrefer.service.api.converse_schemas import AskedRegionIn, ConverseFields, ConverseRequest, MessageIn
from dynrefer.service.api.schemas import ImageIn
from dynrefer.service.errors import FieldError
from dynrefer.service.inputs.bounds import bounded_conversation
from dynrefer.service.inputs.forms import PostedForm, read_form
from dynrefer.service.inputs.parsing import chosen, field_errors, notation_flaws, region_id, reject
from dynrefer.service.inputs.query_parameters import read_converse_parameters
from dynrefer.service.inputs.region_prompts import BytesOf, read_region_prompts
from dynrefer.service.settings import Settings

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "": ConverseRequest,
    "image": ImageIn,
    "regions": AskedRegionIn,
    "messages": MessageIn,
}
Fields = TypeVar("Fields", bound=ConverseFields)


@dataclass(frozen=True, slots=True)
class ParsedConversation:
    """A parsed request. image: the file's bytes; empty where `url` is given instead. ids: of the regions, in order.

    conversation: what is asked, without its regions.
    """

    fields: ConverseFields
    ids: tuple[str, ...]
    conversation: Conversation
    image: bytes
    url: str | None = None

    @property
    def num_bytes(self) -> int:
        """Of the files that it holds."""
        return len(self.image) + sum(len(r.mask.png) for r in self.fields.regions if isinstance(r.mask, MaskFile))


def read_converse_request(
    body: bytes, content_type: str, settings: Settings, query: str = "", resolve: ResolveVocabulary = no_names
) -> ParsedConversation:
    """Any of the forms -> ParsedConversation. CPU work; arguments and errors as of `description.read_request`."""
    glance = partial(bounded_conversation, settings=settings)
    posted = read_form(body, content_type, settings, query, read_converse_parameters, glance)
    return read_conversation(posted, settings)


def read_conversation(posted: PostedForm, settings: Settings) -> ParsedConversation:
    """A request that asks. Raises InvalidRequestError with a pointer for every error, and UnsupportedMediaError."""
    if posted.files is not None:
        fields = _checked(ConverseFields, posted.document, settings, posted.bytes_of)
        return _parsed(fields, posted.checked_file(), None, settings)
    request = _checked(ConverseRequest, posted.document, settings, posted.bytes_of)
    return _parsed(request, *posted.image_of(request.image), settings)


def _checked(schema: type[Fields], document: Any, settings: Settings, bytes_of: BytesOf) -> Fields:
    try:
        fields = schema.model_validate(bounded_conversation(document, settings))
    except ValidationError as error:
        reject(field_errors(error.errors(include_url=False, include_input=False), SCHEMAS))
    regions, errors = read_region_prompts(fields.regions, settings, bytes_of)
    fields = cast("Fields", fields.model_copy(update={"regions": regions}))
    if errors := [*errors, *notation_flaws(fields), *_flaws(fields, settings)]:
        reject(chosen(errors))
    return fields


def _parsed(fields: ConverseFields, image: bytes, url: str | None, settings: Settings) -> ParsedConversation:
    conversation = Conversation(
        messages=_messages(fields),
        ground=fields.ground,
        answers=tuple(fields.answers or ()),
        max_tokens=min(fields.max_tokens, settings.max_reply_tokens),
    )
    return ParsedConversation(fields, _ids(fields.regions), conversation, image, url)


def _messages(fields: ConverseFields) -> tuple[Message, ...]:
    return tuple(Message(Role(each.role), each.content) for each in fields.messages)


def _ids(regions: Sequence[AskedRegionIn]) -> tuple[str, ...]:
    """A missing id is the region's index, and may equal a given one, which is an error of the later region."""
    return tuple(region_id(region, place) for place, region in enumerate(regions))


def _flaws(fields: ConverseFields, settings: Settings) -> list[FieldError]:
    """The limits that the settings choose; where texts are within them, what the model finds wrong."""
    errors = []
    if "max_tokens" in fields.model_fields_set and fields.max_tokens > settings.max_reply_tokens:
        errors.append(FieldError("/max_tokens", f"max_tokens is at most {settings.max_reply_tokens}."))
    if fields.answers is not None and not fields.answers:
        detail = "The list is empty: give two answers or more, or leave 'answers' out to allow any."
        errors.append(FieldError("/answers", detail))
    most = settings.max_message_chars
    long = [f"/messages/{place}/content" for place, each in enumerate(fields.messages) if len(each.content) > most]
    long += [f"/answers/{place}" for place, answer in enumerate(fields.answers or ()) if len(answer) > most]
    errors += [FieldError(pointer, f"A text has at most {most} characters here.") for pointer in long]
    if long:
        return errors
    flaws = conversation_flaws(_messages(fields), _ids(fields.regions), fields.answers or ())
    return errors + [FieldError("".join(f"/{part}" for part in flaw.path), flaw.detail) for flaw in flaws]

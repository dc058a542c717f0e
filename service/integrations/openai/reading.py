"""The body of a chat completion -> the service's own checked fields."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from dynrefer.model import AlphaOrWhole, ResolveVocabulary
from dynrefer.service.api.schemas import DescribeFields
from dynrefer.service.errors import FieldError, InvalidRequestError
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.json_text import BASE64_MEMBERS, Json, parse_json, printable
from dynrefer.service.inputs.parsing import ParsedRequest, read_single
from dynrefer.service.integrations.openai.instructions import Box, check_words, read_boxes
from dynrefer.service.integrations.openai.messages import Messages, read_messages
from dynrefer.service.integrations.openai.parameters import PARAMETERS, Wanted, read_parameters
from dynrefer.service.settings import Settings

IGNORE_WORDS = "ignore_words"
KNOWN = ("model", "messages", *PARAMETERS, *DescribeFields.model_fields, IGNORE_WORDS)
MOST_UNKNOWN = 20
DATA = b"data:"


@dataclass(frozen=True, slots=True)
class ParsedChat:
    """request: what is to be described. wanted: what is asked beside. places: see `Places`."""

    request: ParsedRequest
    wanted: Wanted
    places: "Places"

    @property
    def num_bytes(self) -> int:
        """Of the files in it."""
        return self.request.num_bytes


@dataclass(frozen=True, slots=True)
class Places:
    """Where in the client's document stands what the service's own document has: JSON pointers.

    image: of its URL. boxes: of the texts that the regions' boxes stand in; empty where they do not.
    """

    image: str
    boxes: tuple[str, ...] = ()
    captions: str = "/num_captions"

    @contextmanager
    def told(self) -> Iterator[None]:
        """Have errors point at the client's document."""
        try:
            yield
        except InvalidRequestError as error:
            fields = [self._moved(each) for each in error.fields]
            raise InvalidRequestError(fields[0].detail if len(fields) == 1 else error.detail, fields) from None

    def _moved(self, error: FieldError) -> FieldError:
        parts = error.pointer.split("/")
        if parts[1:2] == ["image"]:
            return replace(error, pointer=self.image)
        if parts[1:2] == ["num_captions"]:
            return replace(error, pointer=self.captions)
        if parts[1:2] == ["regions"] and self.boxes:
            if len(parts) == 2:
                return replace(error, pointer=self.boxes[0])
            place = int(parts[2])
            return FieldError(self.boxes[place], f"Box {place + 1} of {len(self.boxes)}: {error.detail}")
        return error


def read_chat(body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary) -> ParsedChat:
    """CPU work. Raises InvalidRequestError with a pointer into the client's document for every error."""
    parsed = parse_json(body, settings.max_json_values, base64_members=("url", *BASE64_MEMBERS))
    document = parsed.document
    if not isinstance(document, dict):
        raise InvalidRequestError.at("", "The body is to be a JSON object.")
    _refuse_unknown(document)
    wanted = read_parameters(document)
    messages = read_messages(document.get("messages"))
    boxes = read_boxes(messages.texts)
    if not _ignores_words(document):
        check_words(messages.texts)
    fields = {name: document[name] for name in DescribeFields.model_fields if name in document}
    shown = "regions" not in fields and not boxes
    fields |= _regions(fields, boxes) | _captions(fields, wanted)
    places = Places(messages.at, tuple(each.at for each in boxes), "/n" if wanted.captions else "/num_captions")
    fields["image"] = _image(messages, parsed, settings)
    with places.told():
        request = read_single(PostedForm(fields, parsed.bytes_of), settings, resolve)
    if shown:
        request = _with_alpha_or_whole(request)
    if wanted.captions is not None and wanted.captions > 1 and len(request.fields.regions) > 1:
        detail = "'n' above 1 is for a single region; 'num_captions' gives several captions of each in 'regions'."
        raise InvalidRequestError.at("/n", detail)
    return ParsedChat(request, wanted, places)


def _refuse_unknown(document: Mapping[str, Any]) -> None:
    unknown = list(islice((name for name in document if name not in KNOWN), MOST_UNKNOWN))
    if not unknown:
        return
    errors = []
    for name in unknown:
        nearest = difflib.get_close_matches(name[:64], KNOWN, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        pointer = printable(name).replace("~", "~0").replace("/", "~1")
        errors.append(FieldError(f"/{pointer}", f"Unknown parameter '{printable(name)}'.{hint}"))
    raise InvalidRequestError(errors[0].detail if len(errors) == 1 else "Parameters are unknown.", errors)


def _ignores_words(document: Mapping[str, Any]) -> bool:
    given = document.get(IGNORE_WORDS)
    if given is not None and not isinstance(given, bool):
        raise InvalidRequestError.at(f"/{IGNORE_WORDS}", "true or false is expected.")
    return given is True


def _regions(fields: Mapping[str, Any], boxes: Sequence[Box]) -> dict[str, Any]:
    """The regions: those of the field, or of the boxes in the texts, or what the image itself shows."""
    if "regions" in fields:
        if boxes:
            raise InvalidRequestError.at("/regions", "Give regions either in 'regions' or in the text, not in both.")
        return {}
    if boxes:
        return {"regions": [{"box": list(each.values)} for each in boxes]}
    return {"regions": [{"mask": "alpha"}]}


def _captions(fields: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
    if wanted.captions is None:
        return {}
    if "num_captions" in fields:
        raise InvalidRequestError.at("/n", "Give either 'n' or 'num_captions', not both.")
    return {"num_captions": wanted.captions}


def _with_alpha_or_whole(request: ParsedRequest) -> ParsedRequest:
    """Where the request names no region: DAM's clients mark it by the alpha channel, others mean the whole image."""
    (region,) = request.fields.regions
    regions = [region.model_copy(update={"mask": AlphaOrWhole()})]
    return replace(request, fields=request.fields.model_copy(update={"regions": regions}))


def _image(messages: Messages, parsed: Json, settings: Settings) -> dict[str, str]:
    """The member `image` of the service's own document."""
    if parsed.bytes_of(messages.url)[:5].lower() == DATA:
        return {"base64": messages.url}
    if not messages.url.lower().startswith(("https://", "http://")):
        detail = "The url of an image is a data: URI with its Base64, or an https address."
        raise InvalidRequestError.at(messages.at, detail)
    if not settings.image_url_hosts:
        detail = "This server fetches no images; send the image itself, as a data: URI with its Base64."
        raise InvalidRequestError.at(messages.at, detail)
    return {"url": messages.url}

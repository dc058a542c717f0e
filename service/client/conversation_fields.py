"""A question about an image and its regions -> the request to /v1/converse. Nothing is sent here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dynrefer.model import Message, Pointing, QueryError, asked_messages, points_of
from dynrefer.service.client.request_fields import Outgoing, posted, refuse_unknown, region_members

if TYPE_CHECKING:
    from dynrefer.model import ImageSource

Question = str | Sequence[Message | Mapping[str, str]]
GivenRegions = Mapping[str, Pointing | Mapping[str, Any]]

EVENTS = "text/event-stream"
_MOST_TOKENS = 64  # of `DynRefer.ask`, where no others are given
_AS_GIVEN = ("ground", "max_tokens", "verify", "box_format", "coordinates", "normalized", "orientation")


class AskOptions(TypedDict, total=False):
    """What /v1/converse takes beside image, messages and regions; what is left out is the service's own choice.

    ground, answers, max_tokens, verify: as for `DynRefer.ask`. box_format, coordinates, normalized, orientation,
    timeout, request_id: as in `DescribeOptions`.
    """

    ground: bool
    answers: Sequence[str]
    max_tokens: int
    verify: bool
    box_format: Literal["xyxy", "xywh", "cxcywh"]
    coordinates: Literal["pixels", "unit", "percent", "per_mille"]
    normalized: bool
    orientation: Literal["upright", "stored"]
    timeout: float
    request_id: str


def ask_request(
    image: "ImageSource",
    question: Question,
    regions: GivenRegions | None,
    options: AskOptions,
    *,
    stream: bool = False,
) -> Outgoing:
    """A request to /v1/converse. regions: by name; each as for `DynRefer.ask`, or as in the service's JSON.

    stream: whether the answer is to come as server-sent events. Raises `ConversationError` for what is wrong with the
    messages, and as `describe_request` does.
    """
    refuse_unknown("ask", options, AskOptions.__annotations__)
    named, given = regions or {}, dict(options)
    messages = asked_messages(
        question,
        tuple(named),
        answers=options.get("answers", ()),
        max_tokens=options.get("max_tokens", _MOST_TOKENS),
    )
    document: dict[str, Any] = {"messages": [each.to_dict() for each in messages]}
    if named:
        document["regions"] = [{**_region(place, each), "id": name} for place, (name, each) in enumerate(named.items())]
    if answers := options.get("answers"):
        document["answers"] = list(answers)
    document |= {name: given[name] for name in _AS_GIVEN if name in given}
    if stream:
        document["stream"] = True
    outgoing = posted("/v1/converse", document, image, options)
    return replace(outgoing, accept=EVENTS) if stream else outgoing


def _region(place: int, given: Any) -> dict[str, Any]:
    points = None if isinstance(given, Mapping) else points_of(given)
    try:
        members = region_members([given], {}) if points is None else region_members([], {"points": [points]})
    except QueryError as error:
        error.index = place
        raise
    found: dict[str, Any] = members["regions"][0]
    return found

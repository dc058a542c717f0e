"""The public contract of /v1/converse: requests, answers, and the events of an answer that is streamed."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from dynrefer.service.api.schemas import Contract, DescribeFields, ImageIn, ImageOut, PromptedRegionIn
from dynrefer.service.observability.metrics import TURN_STAGES

# How a request writes its boxes, as in /v1/describe.
NOTATION_MEMBERS = ("box_format", "coordinates", "normalized", "orientation")
EVENTS = "text/event-stream"


class AskedRegionIn(PromptedRegionIn):
    """A region that messages may refer to."""

    id: str | None = Field(
        None,
        min_length=1,
        description="its name in messages: 1 to 64 letters, digits, dots, hyphens and underscores; default: its index",
    )


class MessageIn(Contract):
    """One turn of a conversation."""

    role: Literal["user", "assistant"] = Field(description="who says it: both take turns, the user first and last")
    content: str = Field(description="text, in which `<region:ID>` refers to a region of `regions`")


_members: dict[str, Any] = {
    name: (field.annotation, field) for name, field in DescribeFields.model_fields.items() if name in NOTATION_MEMBERS
}
_NotationMembers: Any = create_model("_NotationMembers", __base__=Contract, **_members)


class ConverseFields(_NotationMembers):  # type: ignore[misc]  # its fields are made at run time
    """A request without its image: the `request` part of the multipart form."""

    regions: list[AskedRegionIn] = Field([], description="what messages may refer to; the image as a whole needs none")
    messages: list[MessageIn] = Field(description="the conversation so far, from its first turn on; last the question")
    ground: bool = Field(True, description="whether objects that the answer names come with their boxes")
    answers: list[str] | None = Field(
        None, description="the only answers allowed, such as yes and no, of which the best is chosen; null: any text"
    )
    max_tokens: Annotated[int, Field(ge=1)] = Field(64, description="longest answer, in tokens")
    stream: bool = Field(
        False,
        description=f"whether the answer comes as server-sent events while it is written, as with Accept: {EVENTS}",
    )
    verify: bool = Field(
        True,
        description="whether the region model looks at the boxes of the answer: `verified`; where the embedded "
        "converser answers it has looked already",
    )


class ConverseRequest(ConverseFields):
    """A request as one JSON object."""

    image: ImageIn


class GroundedSpanOut(BaseModel):
    """An object that the answer names."""

    span: tuple[int, int] = Field(description="its characters [start, end) in `content`")
    box: list[float] = Field(description="xyxy, pixels of the image in the request's `orientation`")
    probability: float | None = Field(None, description="that the object is what the words say; absent if not known")
    verified: bool | None = Field(
        None,
        description="whether the region model agrees; absent where it was not asked, or knows no such word",
    )
    region: str | None = Field(None, description="the `id` of the request's region that it is; else absent")


class AnswerOut(BaseModel):
    """One of the answers allowed."""

    answer: str
    probability: float = Field(
        description="those of all answers add up to 1; calibrated where the embedded converser answers"
    )


class ReplyOut(BaseModel):
    """What is answered: the next message of the conversation, with what is known of it."""

    role: Literal["assistant"] = "assistant"
    content: str
    grounding: list[GroundedSpanOut] = Field(description="by span; empty where nothing is named, or nothing has a box")
    probability: float | None = Field(None, description="that the answer is right; absent if not known")
    answers: list[AnswerOut] | None = Field(
        None, description="with `answers`: each of them, by descending probability; absent where the engine has none"
    )


class UsageOut(BaseModel):
    """What the answer took."""

    completion_tokens: int


class ConverseResponse(BaseModel):
    """The answer; of one that is streamed, the data of its last event `done`."""

    id: str = Field(description="the X-Request-Id")
    model: str = Field(description="the region model, also where another one answers")
    image: ImageOut
    message: ReplyOut
    finish_reason: Literal["stop", "length"] = Field(description="length: it has as many tokens as were allowed")
    usage: UsageOut
    timings_ms: dict[str, float] = Field(description=", ".join(("decode", "points", *TURN_STAGES, "total")))


class DeltaOut(BaseModel):
    """The data of an event `delta`: what has been written since the last one, and stays as it is."""

    content: str

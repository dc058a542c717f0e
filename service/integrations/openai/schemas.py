"""The contract of a chat completion, as the OpenAPI document shows it. A request is read, and every flaw in it pointed
at, by `reading.py`.
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from dynrefer.service.api.document_schemas import REFERENCE
from dynrefer.service.api.schemas import DescribeFields, FailedRegionOut, ImageOut, RegionOut
from dynrefer.service.api.vocabulary_schemas import UnknownWordOut
from dynrefer.service.integrations.openai.parameters import PARAMETERS

_TEXT = {"type": "string"}
_PARTS = {
    "type": "array",
    "items": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": _TEXT},
                "required": ["type", "text"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {
                    "type": {"const": "image_url"},
                    "image_url": {"type": "object", "properties": {"url": _TEXT}, "required": ["url"]},
                },
                "required": ["type", "image_url"],
                "additionalProperties": False,
            },
        ]
    },
}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"type": "string", "enum": ["user", "system", "developer"]},
        "content": {"anyOf": [_TEXT, _PARTS]},
        "name": _TEXT,
    },
    "required": ["role", "content"],
    "additionalProperties": False,
}


def request_schema() -> dict[str, Any]:
    """JSON schema of the body of a request."""
    fields = DescribeFields.model_json_schema(ref_template=REFERENCE)["properties"]
    own = {
        "model": {**_TEXT, "description": 'the name of the loaded model, or "dynrefer"'},
        "messages": {
            "type": "array",
            "items": _MESSAGE,
            "minItems": 1,
            "description": "one user message with one image, and words that ask for a description; boxes in them, as "
            "[x1, y1, x2, y2], are the regions",
        },
        "ignore_words": {"type": "boolean", "description": "whether words in the messages are not looked at"},
    }
    parameters = {name: {"description": "as OpenAI's, where it can be honoured"} for name in PARAMETERS}
    return {
        "type": "object",
        "properties": {**own, **parameters, **fields},
        "required": ["model", "messages"],
        "additionalProperties": False,
    }


class ChatMessageOut(BaseModel):
    """What was written."""

    role: Literal["assistant"]
    content: str = Field(description="a caption per region, in their order, one per line")
    refusal: None = None


class ChatChoiceOut(BaseModel):
    """One answer; of several, the best comes first."""

    index: int
    message: ChatMessageOut
    logprobs: None = None
    finish_reason: Literal["stop", "length"] = Field(description="length: a caption met the limit of its length")


class ChatUsageOut(BaseModel):
    """Tokens that captions were made of. Nothing of the prompt is read as tokens."""

    prompt_tokens: Literal[0]
    completion_tokens: int
    total_tokens: int


class ChatCompletionOut(BaseModel):
    """A chat completion, and what /v1/describe answers beside."""

    id: str = Field(description="`chatcmpl-` and the X-Request-Id")
    object: Literal["chat.completion"]
    created: int = Field(description="seconds since 1970 (UTC)")
    model: str
    system_fingerprint: str = Field(description="the model's revision")
    choices: list[ChatChoiceOut]
    usage: ChatUsageOut
    image: ImageOut
    regions: list[RegionOut | FailedRegionOut]
    unknown_words: list[UnknownWordOut] | None = None
    timings_ms: dict[str, float]


class ErrorOut(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswerOut(BaseModel):
    """An error in OpenAI's form."""

    error: ErrorOut

"""The contract of a request's vocabulary, as the OpenAPI document shows it. What is given is read, and every flaw in it
pointed at, by `inputs/own_words.py`: pydantic only carries it there."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

_NAME = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _NAME}


def _entry(name: str, **more: Any) -> dict[str, Any]:
    """A word: a text, or an object."""
    members = {
        "name": {**_NAME, "description": name},
        "synonyms": {**_TEXTS, "description": "other words for it; answers never say them"},
        "translations": {
            "type": "object",
            "additionalProperties": _NAME,
            "description": "language (BCP 47) to word",
        },
        "threshold": {"type": "number", "description": "least score, unless the request sets one for the task"},
        **more,
    }
    entry = {"type": "object", "properties": members, "required": ["name"], "additionalProperties": False}
    return {"anyOf": [_NAME, entry]}


def _member(description: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A list of words, or the name of a vocabulary."""
    return {
        "anyOf": [{"type": "array", "items": entry, "minItems": 1}, _NAME, {"type": "null"}],
        "description": description,
    }


_OBJECT = {
    "type": "object",
    "properties": {
        "categories": _member("what the object may be", _entry("as the answer says it")),
        "attributes": _member(
            "properties that it may have",
            _entry(
                'type:value, or type:value/synonym/...; the answer says "type:value"',
                template={
                    "type": "string",
                    "enum": ["is", "has"],
                    "description": 'whether an object is so ("red") or has such a thing ("black hair color"); by '
                    "default as the model's own attributes of that type",
                },
            ),
        ),
        "tags": _member("words that may describe it", _entry("as the answer says it")),
    },
    "additionalProperties": False,
}

OwnWords = Annotated[Any, WithJsonSchema({"anyOf": [_OBJECT, _NAME, {"type": "null"}]})]


class UnknownWordOut(BaseModel):
    """A word of the request's vocabulary that the model knows nothing about; no result holds it."""

    name: str
    nearest: list[str] = Field(description="the model's own words that are spelled most like it, the nearest first")

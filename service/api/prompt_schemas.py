"""The contract of what a region is pointed at with beside a box, as the OpenAPI document shows it. What is given is
read, and every flaw in it pointed at, by `inputs/region_prompts.py`: pydantic only carries it there."""

from typing import Annotated, Any

from pydantic import WithJsonSchema

PROMPTS = ("box", "polygon", "mask", "points", "scribble")  # a region has exactly one of them

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_PAIRS = {"type": "array", "items": {**_NUMBERS, "minItems": 2, "maxItems": 2}}


def _lines(what: str) -> dict[str, Any]:
    """One line or several, each of pairs or of numbers."""
    return {
        "anyOf": [{"type": "array", "items": {"anyOf": [_NUMBERS, _PAIRS]}, "minItems": 1}, _NUMBERS],
        "description": what,
    }


_SIZE = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2}
_RUNS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer", "minimum": 0}}]}
_MASK = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"size": {**_SIZE, "description": "height and width"}, "counts": _RUNS},
            "required": ["size", "counts"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"png": {"type": "string", "description": "a PNG in Base64, also as a `data:` URI"}},
            "required": ["png"],
            "additionalProperties": False,
        },
        {"type": "string", "enum": ["alpha"]},
    ],
    "description": "COCO's run lengths, compressed or not; a PNG, whose pixels above half brightness belong to the "
    "region; or `alpha`, the image's own alpha channel. As large as the image in the request's `orientation`",
}
_RINGS = _lines(
    "rings, each a list of [x, y] or of numbers x, y, x, y, ..., in `coordinates` and `orientation`; filled one by one "
    "and joined, as COCO does. Its bounds are the region's box"
)
_STROKES = _lines(
    "a polyline over the object, or several, written as a polygon's rings. Its bounds are the region's box"
)

GivenPolygon = Annotated[Any, WithJsonSchema(_RINGS)]
GivenScribble = Annotated[Any, WithJsonSchema(_STROKES)]
GivenMask = Annotated[Any, WithJsonSchema(_MASK)]

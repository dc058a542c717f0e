"""The tools: their names and typed arguments, as a language model is told of them, and what is asked by a call.

Arguments are the fields of /v1/describe and /v1/detect under the same names, so that they are read and refused as
those are. The schemas list what a language model has a use for: every token of them is in its context, always. Further
fields of those requests are accepted as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mcp.types import Tool, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from dynrefer.model import ResolveVocabulary
from dynrefer.service.api.detect_schemas import DetectResponse
from dynrefer.service.api.schemas import Coordinates, DescribeResponse, ImageIn
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.parsing import ParsedRequest, read_single
from dynrefer.service.inputs.query_parameters import WHOLE_IMAGE
from dynrefer.service.inputs.region_prompts import BytesOf
from dynrefer.service.settings import Settings

IMAGE = "the image: 'base64' with the bytes of its file, or 'url' where the server allows the host"
DRAW = "true: the answer also has the image with the regions and what is said of them drawn on it"
LANGUAGE = "language (BCP 47) of the names of tags, attributes and categories; captions are English"

TaskName = Literal["caption", "tags", "attributes", "categories"]


def _all_optional(schema: dict[str, Any]) -> None:
    schema.pop("required", None)


def _box_or_points(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": ["box"]}, {"required": ["points"]}]
    schema.pop("required", None)


class AllOptional(BaseModel):
    """Base of what may leave out any member; none is null in a schema, which would double its size."""

    model_config = ConfigDict(json_schema_extra=_all_optional)


class Point(BaseModel):
    """A point on an object."""

    x: float
    y: float
    positive: bool = Field(True, description="false: the object ends before it")


class Region(BaseModel):
    """What to describe: exactly one of box and points."""

    model_config = ConfigDict(json_schema_extra=_box_or_points)

    box: list[float] = Field(min_length=4, max_length=4, description="[x1, y1, x2, y2]: left, top, right, bottom")
    points: list[Point] = Field(description="in the place of a box: points on an object, whose outline is found")


class Words(AllOptional):
    """The only words that the answer may use."""

    categories: list[str] = Field(description="what an object may be")
    attributes: list[str] = Field(description='properties as type:value, such as "color:red"')
    tags: list[str] = Field(description="words that may describe it")


class RegionsArguments(AllOptional):
    """Arguments about regions of an image."""

    image: ImageIn = Field(description=IMAGE)
    regions: list[Region] = Field(description="left out: the whole image")
    coordinates: Coordinates = Field(
        "pixels", description="unit of the numbers: pixels of the image, or parts of its sides: 0-1, 0-100, 0-1000"
    )


class DescribeArguments(RegionsArguments):
    """Arguments of the tool describe."""

    task: list[TaskName] = Field(description="left out: all four")
    vocabulary: Words = Field(description="words to choose from; lists that are left out keep the model's own")
    max_words: int = Field(description="the longest caption, in words")
    language: str = Field(description=LANGUAGE)
    draw: bool = Field(False, description=DRAW)


class DetectArguments(AllOptional):
    """Arguments of the tool detect."""

    image: ImageIn = Field(description=IMAGE)
    names: list[str] = Field(description="what to find, in any words; left out, with no phrase: every object")
    phrase: str = Field(description="in the place of names: a sentence, each of whose noun phrases is found")
    threshold: float = Field(description="least score, 0 to 1; left out: the finder's own")
    max_regions: int = Field(50, description="the best so many are answered")
    masks: bool = Field(False, description="whether each region comes with its mask, in COCO's run lengths")
    draw: bool = Field(False, description=DRAW)


class ExplainArguments(RegionsArguments):
    """Arguments of the tool explain."""

    language: str = Field(description=LANGUAGE)
    thumbnails: bool = Field(False, description="true: the answer also has pictures of the views that were looked at")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What is asked. draw: whether the answer has the image with the regions drawn. thumbnails: pictures of views."""

    parsed: ParsedRequest | ParsedDetection
    draw: bool = False
    thumbnails: bool = False


def _describe(given: Mapping[str, Any], settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf) -> ToolCall:
    draw, fields = _draw(given)
    return ToolCall(_regions(fields, settings, resolve, bytes_of), draw=draw)


def _explain(given: Mapping[str, Any], settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf) -> ToolCall:
    thumbnails, fields = _taken(given, "thumbnails")
    fields = {"explain": {"candidates": False, "thumbnails": thumbnails}, **fields}
    return ToolCall(_regions(fields, settings, resolve, bytes_of), thumbnails=thumbnails)


def _detect(given: Mapping[str, Any], settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf) -> ToolCall:
    draw, fields = _draw(given)
    return ToolCall(read_detection(PostedForm(fields, bytes_of), settings, resolve), draw=draw)


def _regions(
    fields: dict[str, Any], settings: Settings, resolve: ResolveVocabulary, bytes_of: BytesOf
) -> ParsedRequest:
    if "regions" not in fields:
        fields = {**fields, **WHOLE_IMAGE}
    return read_single(PostedForm(fields, bytes_of), settings, resolve)


def _draw(given: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    draw, fields = _taken(given, "draw")
    if draw and fields.get("orientation") == "stored":
        raise InvalidRequestError.at("/draw", "Only upright images are drawn; leave 'orientation' out, or 'draw'.")
    return draw, fields


def _taken(given: Mapping[str, Any], name: str) -> tuple[bool, dict[str, Any]]:
    """A member of the tool's own, and the fields of a request. null stands for what is left out: language models write
    it so."""
    fields = {key: value for key, value in given.items() if value is not None}
    value = fields.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError.at(f"/{name}", "true or false is expected.")
    return value, fields


READERS: Mapping[str, Callable[[Mapping[str, Any], Settings, ResolveVocabulary, BytesOf], ToolCall]] = {
    "describe": _describe,
    "detect": _detect,
    "explain": _explain,
}


def tools() -> list[Tool]:
    """What `tools/list` answers."""
    return [
        _tool(
            "describe",
            "Describe regions of an image",
            "Describes regions of an image: a caption, tags, attributes and categories of each, with calibrated "
            "probabilities. Give boxes, or points on objects; without regions the whole image is described.",
            DescribeArguments,
            DescribeResponse,
        ),
        _tool(
            "detect",
            "Find things in an image",
            "Finds things in an image by names, by a sentence, or every object, each with its box, score and "
            "probability; names that the image does not show come back as absent.",
            DetectArguments,
            DetectResponse,
        ),
        _tool(
            "explain",
            "Explain why regions are described as they are",
            "Describes regions of an image and says why: which views of a region were looked at, what supports each "
            "word of the caption, and what the object was taken for.",
            ExplainArguments,
            DescribeResponse,
        ),
    ]


def _tool(name: str, title: str, description: str, arguments: type[BaseModel], answer: type[BaseModel]) -> Tool:
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema={**_schema(arguments, "validation"), "required": ["image"]},
        output_schema=_schema(answer, "serialization"),
        annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False),
    )


def _schema(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    """A model's JSON schema without the titles, which say nothing that the names do not."""
    schema: dict[str, Any] = _without_titles(model.model_json_schema(mode=mode))
    return schema


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_titles(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }

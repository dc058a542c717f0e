"""The public contract: the schemas of requests and answers. Limits that are settings are checked elsewhere.

What a client sends may hold no unknown field, and nothing is coerced: "1" is not a number, and true is not one either.
Fields per task follow from the tuple of tasks (`dynrefer.model.TASKS`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, create_model, model_validator
from pydantic_core import PydanticCustomError

from dynrefer.model import TASKS, AttributeLabel, Caption, CaptionCandidate, Label, Task, is_language
from dynrefer.service.api.explanation_schemas import ExplainField, ExplanationOut
from dynrefer.service.api.prompt_schemas import PROMPTS, GivenMask, GivenPolygon, GivenScribble
from dynrefer.service.api.vocabulary_schemas import OwnWords, UnknownWordOut
from dynrefer.service.observability.metrics import STAGES

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
Coordinates = Literal["pixels", "unit", "percent", "per_mille"]
Orientation = Literal["upright", "stored"]
OnRegionError = Literal["fail", "report"]
PolicyName = Literal["image_prior", "task_prior", "fixed"]
MAX_POINTS = 64  # of a region
TASK_NAMES = tuple(task.name for task in TASKS)
SCORED_TASKS = tuple(task.name for task in TASKS if task.scored)


def refusal(detail: str) -> PydanticCustomError:
    """A validation error with a message of our own."""
    return PydanticCustomError("refused", "{detail}", {"detail": detail})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _four_numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(each) for each in value):
        raise refusal("A box is a list of four numbers.")
    if not all(abs(each) < 1e15 for each in value):  # NaN and infinities too; a long integer fits no float
        raise refusal("The four numbers of a box must be finite and below 1e15.")
    return tuple(float(each) for each in value)


def _task_names(value: object) -> tuple[Task, ...] | None:
    if value is None:
        return None
    names: list[Any] = value if isinstance(value, list) else [value]
    if not names:
        raise refusal("At least one task is needed; null requests all.")
    for name in names:
        if not isinstance(name, str) or name not in TASK_NAMES:
            raise refusal(f"Unknown task; the tasks are {', '.join(TASK_NAMES)}, a list of them, or null.")
    return tuple(dict.fromkeys(Task(name) for name in names))


def _t_values(value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(_is_number(each) for each in value):
        raise refusal("Views are a list of t values, the first one 0.")
    if not all(0 <= each <= 1 for each in value):
        raise refusal("Every view's t must lie in 0 to 1.")
    return tuple(float(each) for each in value)


def language_tag(value: object) -> object:
    if value is not None and not (isinstance(value, str) and is_language(value)):
        raise refusal("A language is a tag as in BCP 47, such as de or zh-Hans.")
    return value


Box = Annotated[
    tuple[float, ...],
    BeforeValidator(_four_numbers),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}),
]
NO_BOX = [0, 0, 0, 0]  # in the place of a box that is not there: no image has such a one
Coordinate = Annotated[float, Field(gt=-1e15, lt=1e15, allow_inf_nan=False)]
Tasks = Annotated[
    tuple[Task, ...] | None,
    BeforeValidator(_task_names),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(TASK_NAMES)},
                {"type": "array", "items": {"type": "string", "enum": list(TASK_NAMES)}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]
Views = Annotated[
    tuple[float, ...] | None,
    BeforeValidator(_t_values),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]
Threshold = Annotated[float, Field(allow_inf_nan=False)]


def _given(value: object) -> object:
    if value is None:
        raise refusal("A text is expected.")
    return value


# May be left out, but not null.
GivenText = Annotated[str | None, BeforeValidator(_given), WithJsonSchema({"type": "string"})]


class Contract(BaseModel):
    """Base of what a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PointIn(Contract):
    """A point in `coordinates` and `orientation`."""

    x: Coordinate
    y: Coordinate
    positive: bool = Field(True, description="whether it lies on the object; else the object ends before it")


def _some_points(value: object) -> object:
    if not isinstance(value, list) or not value:
        raise refusal("Points are a list of objects with x, y and optionally positive.")
    if len(value) > MAX_POINTS:
        raise refusal(f"At most {MAX_POINTS} points are accepted for a region.")
    return value


Points = Annotated[list[PointIn], BeforeValidator(_some_points)]


def _one_prompt(region: object) -> object:
    """Exactly one of `PROMPTS`. Where it is not the box, that is not known yet: `NO_BOX`."""
    if not isinstance(region, dict):
        return region
    given = [name for name in PROMPTS if region.get(name) is not None]
    if len(given) > 1 or not (given or "box" in region):
        named = ", and not " + " and ".join(given) if given else ""
        raise refusal(f"A region has exactly one of {', '.join(PROMPTS[:-1])} and {PROMPTS[-1]}{named}.")
    return region if given in ([], ["box"]) else {**region, "box": NO_BOX}


def _with_one_prompt(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": [name]} for name in PROMPTS]
    schema.pop("required", None)


class PromptedRegionIn(Contract):
    """What a region is pointed at with, for whatever is asked of it."""

    model_config = ConfigDict(json_schema_extra=_with_one_prompt)

    box: Box = Field(description="in `box_format`, `coordinates` and `orientation`; at least one pixel large")
    points: Points | None = Field(
        None,
        description="instead of a box: points on the object, and if need be beside it; its mask and box are found",
    )
    polygon: GivenPolygon = None
    mask: GivenMask = None
    scribble: GivenScribble = None

    _exactly_one = model_validator(mode="before")(_one_prompt)


class RegionIn(PromptedRegionIn):
    """One region to describe."""

    highlight: bool = Field(
        False,
        description="whether all but the polygon, the mask or what is found at the points is blanked in every view",
    )
    id: str | None = Field(None, min_length=1, description="returned with the region; default: its index")


_thresholds: dict[str, Any] = dict.fromkeys(SCORED_TASKS, (Threshold | None, None))
_ThresholdFields: Any = create_model("_ThresholdFields", __base__=Contract, **_thresholds)


class Thresholds(_ThresholdFields):  # type: ignore[misc]  # its fields are made at run time
    """The least score per task; lower scores are not returned."""


_FALSE: dict[str, Any] = {"default": False}


class DescribeFields(Contract):
    """A request without its image: the `request` part of the multipart form."""

    regions: list[RegionIn] = Field(min_length=1, description="what to describe")
    box_format: BoxFormat = Field(
        "xyxy", description="xyxy: corners; xywh: corner and size (COCO); cxcywh: centre and size (YOLO)"
    )
    coordinates: Coordinates = Field(
        "pixels",
        description="what the numbers of a box count: pixels, or parts of the image's width and height: 0 to 1, 0 to "
        "100, 0 to 1000; boxes of the answer are always in pixels",
    )
    normalized: bool = Field(False, description="true is another word for the coordinates `unit`")
    orientation: Orientation = Field(
        "upright",
        description="the frame of all coordinates, and of the image's size in the answer: after the EXIF orientation, "
        "or the rows and columns that the file stores",
    )
    task: Tasks = Field(
        None,
        description="what to compute, with the views that suit it; null: all tasks, with views chosen by the image",
    )
    vocabulary: OwnWords = Field(
        None,
        description="words of your own in place of the model's, or the name of a vocabulary that the server knows; "
        "lists that are not given keep the model's own",
    )
    language: Annotated[str | None, BeforeValidator(language_tag)] = Field(
        None,
        description="in which language (BCP 47) names of tags, attributes and categories are written, where the "
        "vocabulary has them; null: by the header Accept-Language, else English. Captions are always English",
    )
    controls: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="words that the caption should take up"
    )
    controls_only: bool = Field(
        False, description="whether the caption is controlled by `controls` alone, without the predicted tags"
    )
    num_captions: int = Field(1, ge=1, description="how many captions are looked for, best first: `candidates`")
    num_beams: int | None = Field(
        None, ge=1, description="beams of the caption's search; null: the model's, or as many as `num_captions` needs"
    )
    max_words: int | None = Field(
        None, ge=1, le=1000, description="the longest caption that is looked for, in words; null: the model's limit"
    )
    views: Views = Field(None, description="explicit views: t from 0 (the region) to 1 (the whole image), the first 0")
    view_policy: PolicyName | None = Field(
        None, description="how views are chosen: by force, where null leaves it to `task` and `views`"
    )
    top_k: int = Field(10, ge=1, description="the most labels that a task returns")
    thresholds: Thresholds | None = Field(None, description="least scores; tags default to the model's own threshold")
    on_region_error: OnRegionError = Field(
        "fail",
        description="what a region that is not valid does: `fail` refuses the request and lists all of them; `report` "
        "answers the others, and has an `error` in its place",
    )
    explain: ExplainField = Field(
        None, description="why these views and these words; true: candidates and evidence", json_schema_extra=_FALSE
    )


class ImageIn(Contract):
    """The image, in a JSON request: its bytes or where they are."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["base64"]}, {"required": ["url"]}]})

    base64: GivenText = Field(
        None,
        description="JPEG, PNG, WebP, BMP or GIF (first frame), in standard Base64, also as a `data:` URI and with "
        "line breaks",
    )
    url: GivenText = Field(None, description="https, and only where this server allows the host; most allow none")


class DescribeRequest(DescribeFields):
    """A request as one JSON object."""

    image: ImageIn


class ViewOut(BaseModel):
    """A crop that the model looked at."""

    t: float = Field(description="0: the region, 1: the whole image")
    box: list[float] = Field(description="xyxy, pixels of the image in the request's `orientation`")


# A result carries views of its own only where several tasks looked at different ones.
OwnViews = Annotated[
    list[ViewOut] | None, Field(description="only where the tasks of a region looked at different views")
]
OwnPolicy = Annotated[PolicyName | None, Field(description="only beside `views`")]


class CaptionCandidateOut(BaseModel):
    """One of several captions."""

    text: str
    score: float = Field(description="exp of the beam score")
    logprob_sum: float
    logprob_mean: float = Field(description="per token")


class CaptionOut(BaseModel):
    """A caption."""

    text: str
    score: float = Field(description="exp of the beam score")
    logprob_sum: float
    logprob_mean: float = Field(description="per token")
    name: str | None = Field(None, description="the noun of the text; absent where the model writes it unasked")
    probability: float | None = Field(None, description="of the name: calibrated, 0 to 1")
    candidates: list[CaptionCandidateOut] | None = Field(
        None,
        description="with `num_captions` above 1: at most so many different captions, best first, this one included",
    )
    views: OwnViews = None
    view_policy: OwnPolicy = None


class LabelOut(BaseModel):
    """A tag or a category."""

    name: str
    score: float = Field(description="raw; thresholds apply to it")
    probability: float = Field(description="calibrated, 0 to 1")
    level: Literal["parent"] | None = Field(
        None, description="a broader word, in front of `categories` where the model is unsure"
    )
    views: OwnViews = None
    view_policy: OwnPolicy = None


class AttributeOut(BaseModel):
    """An attribute, `type:value`."""

    name: str
    type: str
    value: str
    score: float = Field(description="raw; thresholds apply to it")
    probability: float = Field(description="calibrated, 0 to 1")
    views: OwnViews = None
    view_policy: OwnPolicy = None


# The schema of each record that a task's result is made of.
RESULT_SCHEMAS: Mapping[type, type[BaseModel]] = {
    Caption: CaptionOut,
    CaptionCandidate: CaptionCandidateOut,
    Label: LabelOut,
    AttributeLabel: AttributeOut,
}


class MaskOut(BaseModel):
    """A mask as COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="height and width of the image in the request's `orientation`")
    counts: str


class _RegionHead(BaseModel):
    id: str
    box: list[float] = Field(description="xyxy, pixels of the image in the request's `orientation`, after clipping")
    clipped: bool = Field(description="whether the box stood partly outside the image")
    mask: MaskOut | None = Field(None, description="of a region that points were given for")
    views: list[ViewOut] | None = Field(None, description="in the order in which the model fused them")
    view_policy: PolicyName | None = None


def _result_field(record: type, many: bool) -> tuple[Any, None]:
    schema: Any = RESULT_SCHEMAS[record]
    return (list[schema] if many else schema) | None, None


_results: dict[str, Any] = {task.name: _result_field(task.record, task.many) for task in TASKS}
_RegionResults: Any = create_model("_RegionResults", __base__=_RegionHead, **_results)


class RegionOut(_RegionResults):  # type: ignore[misc]  # a field per task is made at run time
    """One region described. What was not requested is absent."""

    explanation: ExplanationOut | None = Field(None, description="with `explain`")
    timings_ms: dict[str, float] = Field(description=", ".join(STAGES[2:]))


class FlawItem(BaseModel):
    """One thing wrong with the request."""  # the class's name is part of the OpenAPI document

    pointer: str = Field(description="JSON pointer (RFC 6901) into the request; empty for the whole document")
    detail: str


class RegionProblem(BaseModel):
    """Why a region could not be described: the members of a problem document (RFC 9457)."""

    type: str = Field(description="what kind of problem this is; stable, made for programs")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status that the request would have had with `on_region_error`: `fail`")
    detail: str = Field(description="one sentence about this occurrence")
    errors: list[FlawItem] = Field(description="the fields at fault")


class FailedRegionOut(BaseModel):
    """A region that could not be described, with `on_region_error`: `report`."""

    id: str
    error: RegionProblem


class ImageOut(BaseModel):
    """The image's size, in pixels, in the request's `orientation`."""

    width: int
    height: int
    frames: int | None = Field(None, description="of an animated image, of which the first is described; else absent")


class DescribeResponse(BaseModel):
    """The answer."""

    id: str = Field(description="the X-Request-Id")
    model: str
    image: ImageOut
    regions: list[RegionOut | FailedRegionOut]
    unknown_words: list[UnknownWordOut] | None = Field(
        None, description="words of the request's `vocabulary` that the model knows nothing about; absent if none"
    )
    timings_ms: dict[str, float] = Field(description=", ".join((*STAGES, "total")))


class NamesOut(BaseModel):
    """A vocabulary."""

    size: int
    names: list[str]


class ViewsOut(BaseModel):
    """How the model looks."""

    count: int = Field(description="views per region")
    size: int = Field(description="side of a view, in pixels")


class CapabilitiesOut(BaseModel):
    """What can be asked of a model beside descriptions of boxes."""

    prompts: list[str] = Field(description="what a region may be given as")
    detection: bool = Field(description="whether it finds regions itself")
    conversation: bool = Field(description="whether it answers questions")
    masks: bool = Field(description="whether it answers with masks: of regions that points are given for")


class ModelOut(BaseModel):
    """A loaded model."""

    name: str
    revision: str
    parameters: int
    dtype: str
    device: str
    views: ViewsOut
    vocabulary: dict[str, NamesOut]
    task_priors: dict[str, list[float]] = Field(description="the views, by t, that each task looks at")
    thresholds: dict[str, float] = Field(
        description="the score above which labels are most useful; that of tags applies unless a request sets one"
    )
    limits: dict[str, int] = Field(description="what a request may hold")
    trained_on: str
    intended_use: str
    batch_invariant: bool = Field(
        description="whether a probe at start-up found a region's numbers independent of what else is in its batch"
    )
    capabilities: CapabilitiesOut


class ModelEntry(BaseModel):
    """A loaded model, as OpenAI's list of models has it."""

    id: str = Field(description="the model's name")
    object: Literal["model"] = "model"
    created: int = Field(description="when this server had loaded it, in seconds since 1970 (UTC)")
    owned_by: str


class ModelList(BaseModel):
    """The models that this server has loaded, twice: what can be known of them, and OpenAI's list, which clients of
    that contract read."""

    models: list[ModelOut]
    object: Literal["list"] = "list"
    data: list[ModelEntry]


class Status(BaseModel):
    """A probe's answer."""

    status: str

"""What X-AnyLabeling asks of an image -> the service's own checked fields."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dynrefer.model import ModelCard, ResolveVocabulary
from dynrefer.service.errors import FieldError, InvalidRequestError, NotFoundError
from dynrefer.service.inputs.base64_text import Base64Error, decode_base64
from dynrefer.service.inputs.detection import ParsedDetection, read_detection
from dynrefer.service.inputs.forms import PostedForm
from dynrefer.service.inputs.json_text import Json, parse_json, printable
from dynrefer.service.inputs.parsing import ParsedRequest, field_errors, read_single, reject
from dynrefer.service.inputs.query_parameters import WHOLE_IMAGE
from dynrefer.service.integrations.x_anylabeling import offer
from dynrefer.service.settings import Settings

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
SEPARATORS = re.compile(r"[,;.\n]")  # between names; the program's own models take commas and full stops


class _Theirs(BaseModel):
    """Members that are not known are passed over, as X-AnyLabeling's own server does: newer programs send more."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class MarkIn(_Theirs):
    """What was drawn to show the model something: a point (x, y) or the two corners of a rectangle, in pixels."""

    type: Literal["point", "rectangle"]
    data: list[Annotated[float, Field(allow_inf_nan=False)]]
    label: int = Field(1, description="0: not the object")


class ParamsIn(_Theirs):
    """The state of the window's controls."""

    current_task: str | None = None
    text_prompt: str | None = None
    marks: list[MarkIn] = []
    conf_threshold: Fraction = Field(0.0, description="0: the model's own")
    iou_threshold: Fraction = Field(0.0, description="0: the service's own")
    epsilon_factor: Fraction = Field(0.001, description="how far an outline may be off, as a part of its length")
    filter_classes: list[str] | None = Field(None, description="labels to keep; none or an empty list: all")


class PredictIn(_Theirs):
    """A request of the program."""

    model: str
    image: str = Field(description="the image's file in Base64, also as a `data:` URI")
    params: ParamsIn = ParamsIn.model_validate({})


def request_schema() -> dict[str, Any]:
    """The JSON schema of a request, whole in itself: references would point out of the OpenAPI document's part."""
    schema = PredictIn.model_json_schema()
    parts = schema.pop("$defs")

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if (reference := node.get("$ref")) is not None:
            return resolved(parts[reference.rsplit("/", 1)[1]])
        return {name: resolved(value) for name, value in node.items()}

    whole: dict[str, Any] = resolved(schema)
    return whole


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is to be done, and how it is to be answered. task: of `offer.TASKS`."""

    task: str
    params: ParamsIn
    parsed: ParsedRequest | ParsedDetection

    @property
    def num_bytes(self) -> int:
        """Of the image's file."""
        return self.parsed.num_bytes


def read_prediction(
    card: ModelCard, body: bytes, content_type: str, settings: Settings, query: str, resolve: ResolveVocabulary
) -> Prediction:
    """A request to predict. Raises NotFoundError for another model, InvalidRequestError, UnsupportedMediaError."""
    given = parse_json(body, settings.max_json_values, base64_members=("image",))
    asked = _checked(given, settings)
    if asked.model != card.name:
        raise NotFoundError(f"There is no model '{printable(asked.model)}'; this service has '{card.name}'.")
    task = _task_of(asked.params, card)
    document = _document(task, asked.params)
    posted = PostedForm(document, files=[_decoded(given, asked.image)], holder="The image")
    if "regions" in document:
        return Prediction(task, asked.params, read_single(posted, settings, resolve))
    return Prediction(task, asked.params, read_detection(posted, settings, resolve))


def _checked(given: Json, settings: Settings) -> PredictIn:
    params = given.document.get("params") if isinstance(given.document, dict) else None
    marks = params.get("marks") if isinstance(params, dict) else None
    if isinstance(marks, list) and len(marks) > settings.max_regions:
        detail = f"{len(marks)} marks were given; at most {settings.max_regions} are accepted."
        raise InvalidRequestError.at("/params/marks", detail)
    try:
        return PredictIn.model_validate(given.document)
    except ValidationError as error:
        reject(field_errors(error.errors(include_url=False, include_input=False), {"": PredictIn}))


def _decoded(given: Json, text: str) -> bytes:
    try:
        return decode_base64(given.bytes_of(text))
    except Base64Error as error:
        raise InvalidRequestError.at("/image", f"This is not standard Base64: the text {error}.") from None


def _task_of(params: ParamsIn, card: ModelCard) -> str:
    """The task that is chosen in the window; else the one that what was given is for."""
    able = offer.offered(card)
    task = params.current_task
    if task is None:
        task = offer.FIND_NAMES if params.text_prompt else offer.FIND_ALL
        if params.marks:
            boxes = params.marks[0].type == "rectangle"
            task = offer.DESCRIBE_BOXES if boxes else offer.OUTLINE_CLICKED
        elif task not in able:
            task = offer.DESCRIBE_IMAGE
    if task not in able:
        detail = f"This model has no task '{printable(task)}'; it has {', '.join(able)}."
        raise InvalidRequestError.at("/params/current_task", detail)
    return task


def _document(task: str, params: ParamsIn) -> dict[str, Any]:
    """The task as a request to /v1/describe or /v1/detect. What an object is called and looks like is asked of each."""
    if task == offer.DESCRIBE_IMAGE:
        return {**WHOLE_IMAGE, "task": "caption"}
    about = {"task": ["caption", "attributes", "categories"], "orientation": "stored"}
    if task == offer.DESCRIBE_BOXES:
        return {"regions": [{"box": box} for box in _boxes(params.marks)], **about}
    if task == offer.OUTLINE_CLICKED:
        return {"regions": [{"points": _points(params.marks)}], **about}
    found: dict[str, Any] = {"orientation": "stored", "masks": offer.TASKS[task].masks}
    found["describe"] = {"task": ["caption", "attributes"]}
    if params.conf_threshold > 0:
        found["threshold"] = params.conf_threshold
    if params.iou_threshold > 0:
        found["nms"] = params.iou_threshold
    text = (params.text_prompt or "").strip()
    if task in (offer.FIND_NAMES, offer.FIND_NAMES_MASKS):
        names = dict.fromkeys(" ".join(name.split()) for name in SEPARATORS.split(text))
        found["names"] = [name for name in names if name]
        if not found["names"]:
            raise InvalidRequestError.at("/params/text_prompt", "Write what to find, names between commas.")
    elif task == offer.FIND_SENTENCE:
        if not text:
            raise InvalidRequestError.at("/params/text_prompt", "Write a sentence that says what to find.")
        found["phrase"] = text
    return found


def _boxes(marks: list[MarkIn]) -> list[list[float]]:
    boxes, errors = [], []
    for place, mark in enumerate(marks):
        if mark.type != "rectangle" or mark.label != 1:
            errors.append(FieldError(f"/params/marks/{place}", "This task takes boxes around objects alone."))
        elif len(mark.data) != 4:
            errors.append(FieldError(f"/params/marks/{place}/data", "A rectangle has four numbers: x1, y1, x2, y2."))
        else:
            x1, y1, x2, y2 = mark.data
            boxes.append([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)])
    if errors:
        reject(errors)
    if not boxes:
        raise InvalidRequestError.at("/params/marks", "Draw a box around each object first.")
    return boxes


def _points(marks: list[MarkIn]) -> list[dict[str, Any]]:
    points, errors = [], []
    for place, mark in enumerate(marks):
        if mark.type != "point" or len(mark.data) != 2:
            errors.append(FieldError(f"/params/marks/{place}", "This task takes points alone, each an x and a y."))
        else:
            points.append({"x": mark.data[0], "y": mark.data[1], "positive": mark.label == 1})
    if errors:
        reject(errors)
    if not points:
        raise InvalidRequestError.at("/params/marks", "Click on the object first.")
    return points

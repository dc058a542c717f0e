"""Between the contract and the model: a request's fields -> queries, descriptions -> the answer's schema."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel

from dynrefer.model import (
    TASKS,
    BoxFormat,
    CaptionWriting,
    Corners,
    ImageInfo,
    ModelCard,
    QueryError,
    RegionDescription,
    RegionMask,
    RegionQuery,
    Task,
    Translator,
    ViewPlan,
    ViewPolicy,
    stored_box,
    stored_mask,
    stored_size,
)
from dynrefer.service.api.converse_schemas import ConverseFields
from dynrefer.service.api.explanations import explain_query, explanation_answer
from dynrefer.service.api.images_schemas import DescribedImageOut, DescribeImagesResponse, FailedImageOut
from dynrefer.service.api.problems import image_problem, model_field_errors, no_hint, region_problem
from dynrefer.service.api.schemas import (
    RESULT_SCHEMAS,
    CapabilitiesOut,
    DescribeFields,
    DescribeResponse,
    FailedRegionOut,
    ImageOut,
    MaskOut,
    ModelEntry,
    ModelOut,
    NamesOut,
    PromptedRegionIn,
    RegionIn,
    RegionOut,
    ViewOut,
    ViewsOut,
)
from dynrefer.service.api.vocabulary_schemas import UnknownWordOut
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.errors import InvalidRequestError, RegionFailedError
from dynrefer.service.inputs.description import ParsedImages
from dynrefer.service.inputs.parsing import ParsedRequest, region_id
from dynrefer.service.inputs.region_queries import BoxNotation, Coordinates, GivenPrompts, Orientation, region_queries
from dynrefer.service.observability.metrics import STAGES, TURN_STAGES
from dynrefer.service.settings import Settings


def queries(fields: DescribeFields) -> Callable[[ImageInfo], Sequence[RegionQuery]]:
    """What is asked of each region, once the image is known: a function that pickles."""
    boxes = tuple(region.box for region in fields.regions)
    return partial(region_queries, boxes, notation(fields), region_query(fields), given=given_prompts(fields.regions))


def region_query(fields: DescribeFields) -> RegionQuery:
    """What is asked of every region, whatever its box."""
    given = fields.thresholds.model_dump(exclude_none=True) if fields.thresholds else {}
    return RegionQuery(
        box=(0.0, 0.0, 0.0, 0.0),
        tasks=fields.task,
        controls=tuple(fields.controls or ()),
        writing=CaptionWriting(fields.controls_only, fields.num_captions, fields.num_beams, fields.max_words),
        views=fields.views,
        top_k=fields.top_k,
        thresholds={Task(name): score for name, score in given.items()},
        vocabulary=fields.vocabulary,
        view_policy=None if fields.view_policy is None else ViewPolicy(fields.view_policy),
        explain=explain_query(fields.explain),
    )


def given_prompts(regions: Sequence[PromptedRegionIn]) -> GivenPrompts:
    """What regions have instead of a box."""
    points, prompts, highlighted = {}, {}, set()
    for place, region in enumerate(regions):
        if region.points:
            points[place] = tuple((point.x, point.y, point.positive) for point in region.points)
        for prompt in (region.polygon, region.mask, region.scribble):
            if prompt is not None:
                prompts[place] = prompt
        if isinstance(region, RegionIn) and region.highlight:
            highlighted.add(place)
    return GivenPrompts(points, prompts, frozenset(highlighted))


def notation(fields: DescribeFields | ConverseFields) -> BoxNotation:
    """How the request writes its boxes."""
    coordinates = Coordinates.UNIT if fields.normalized else Coordinates(fields.coordinates)
    return BoxNotation(BoxFormat(fields.box_format), coordinates, Orientation(fields.orientation))


def box_hint(fields: DescribeFields | ConverseFields, index: int) -> str:
    """What else the numbers of a box that was refused may have meant."""
    return notation(fields).hint(fields.regions[index].box)


def answer(
    request_id: str,
    model: str,
    parsed: ParsedRequest,
    described: DescribeResult,
    total_ms: float,
    translator: Translator | None = None,
) -> DescribeResponse:
    """The answer's schema. total_ms: since the request's first byte. translator: None leaves names as they are."""
    members = _described(parsed, described, translator)
    return DescribeResponse(
        id=request_id,
        model=model,
        **members,
        timings_ms=in_order({**described.timings_ms, "total": total_ms}),
    )


def images_answer(
    request_id: str,
    model: str,
    parsed: ParsedImages,
    described: Sequence[DescribeResult | Exception],
    total_ms: float,
    translator: Translator,
) -> DescribeImagesResponse:
    """The answer's schema of a request about several images. described: of each, or why there is nothing."""
    images: list[DescribedImageOut | FailedImageOut] = []
    for place, (requested, found) in enumerate(zip(parsed.images, described, strict=True)):
        if isinstance(found, Exception):
            hint = partial(box_hint, requested.fields) if isinstance(requested, ParsedRequest) else no_hint
            images.append(FailedImageOut(error=image_problem(found, f"/images/{place}", hint)))
            continue
        assert isinstance(requested, ParsedRequest)
        members = _described(requested, found, translator)
        images.append(DescribedImageOut(**members, timings_ms=in_order(found.timings_ms)))
    return DescribeImagesResponse(id=request_id, model=model, images=images, timings_ms=in_order({"total": total_ms}))


def _described(parsed: ParsedRequest, described: DescribeResult, translator: Translator | None) -> dict[str, Any]:
    """The members of an answer about one image."""
    frame = Frame(described.info, stored=parsed.fields.orientation == Orientation.STORED.value)
    (width, height), frames = frame.size, described.info.frames
    regions: list[RegionOut | FailedRegionOut] = []
    for index, (requested, found) in enumerate(zip(parsed.fields.regions, described.regions, strict=True)):
        name = region_id(requested, index)
        if index in parsed.region_errors or isinstance(found, Exception):
            regions.append(_failed(name, index, found, parsed))
        else:
            found = found if translator is None else translator.described(found)
            regions.append(region_answer(name, found, {"queue": described.queue_ms[index]}, frame))
    return {
        "image": ImageOut(width=width, height=height, frames=frames if frames > 1 else None),
        "regions": regions,
        "unknown_words": _unknown_words(described),
    }


def _unknown_words(described: DescribeResult) -> list[UnknownWordOut] | None:
    """The same for every region: they share the vocabulary."""
    found = [each.unknown_words for each in described.regions if isinstance(each, RegionDescription)]
    return [UnknownWordOut(name=each.name, nearest=list(each.nearest)) for each in found[0]] or None if found else None


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of the answer's coordinates: the upright image, or the rows and columns of the file."""

    info: ImageInfo
    stored: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return stored_size(self.info) if self.stored else (self.info.width, self.info.height)

    def box(self, upright: Corners, digits: int) -> list[float]:
        """xyxy pixels of the frame, rounded to so many decimal places."""
        corners = stored_box(upright, self.info) if self.stored else upright
        return [round(value, digits) for value in corners]

    def mask(self, upright: RegionMask | None) -> MaskOut | None:
        """A mask in the frame."""
        if upright is None:
            return None
        found = stored_mask(upright, self.info) if self.stored else upright
        return MaskOut(size=found.size, counts=found.counts)


UPRIGHT = Frame(ImageInfo(0, 0), stored=False)


def _failed(name: str, index: int, found: object, parsed: ParsedRequest) -> FailedRegionOut:
    error = found if isinstance(found, Exception) else RegionFailedError("")
    field_errors = parsed.region_errors.get(index, ())
    if not field_errors and isinstance(error, QueryError):
        error.index = index
        field_errors = model_field_errors(error, partial(box_hint, parsed.fields))
    elif field_errors:
        error = InvalidRequestError("", field_errors)
    field_errors = [replace(each, pointer=parsed.at + each.pointer) for each in field_errors]
    return FailedRegionOut(id=name, error=region_problem(error, f"{parsed.at}/regions/{index}", field_errors))


def region_answer(
    name: str, found: RegionDescription, more_ms: Mapping[str, float], frame: Frame = UPRIGHT
) -> RegionOut:
    """One region's schema. more_ms: times of stages outside the model."""
    shared = _viewed(found.plan, frame)
    own: dict[str, dict[str, Any]] = {}
    if found.plan is None:
        own = {task: _viewed(plan, frame) for task, plan in found.plans.items()}
    return RegionOut(
        id=name,
        box=frame.box(found.box, 4),
        clipped=found.clipped,
        mask=frame.mask(found.mask),
        **shared,
        **{task.name: _result(found.results.get(task.name), own.get(task.name, {})) for task in TASKS},
        explanation=explanation_answer(found.explanation, frame.box),
        timings_ms=in_order({**found.timings_ms, **more_ms}),
    )


def shown(score: float) -> float:
    """Four significant digits: where inference is not batch-invariant, only the seventh depends on the batch."""
    return float(f"{score:.4g}")


def _viewed(plan: ViewPlan | None, frame: Frame) -> dict[str, Any]:
    if plan is None:
        return {}
    # In single precision; a further digit would be noise in images of a few thousand pixels.
    views = [ViewOut(t=view.t, box=frame.box(view.box, 3)) for view in plan.views]
    return {"views": views, "view_policy": plan.policy.value}


def _result(result: Any, viewed: Mapping[str, Any]) -> Any:
    """A task's result in its schema. viewed: the task's own views, where its region has none in common."""
    if result is None:
        return None
    return [_record(each, viewed) for each in result] if isinstance(result, tuple) else _record(result, viewed)


def _record(record: Any, viewed: Mapping[str, Any]) -> BaseModel:
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return RESULT_SCHEMAS[type(record)](**{name: _value(each) for name, each in values.items()}, **viewed)


def _value(value: Any) -> Any:
    """A field of a record: records inside it in their schemas, numbers as they are shown."""
    if isinstance(value, tuple):
        return [_record(each, {}) for each in value]
    return shown(value) if isinstance(value, float) else value


def in_order(timings_ms: Mapping[str, float]) -> dict[str, float]:
    """Stages in the order in which they happen, to a microsecond."""
    order = {stage: place for place, stage in enumerate((*STAGES, *TURN_STAGES))}
    stages = sorted(timings_ms, key=lambda stage: order.get(stage, len(order)))
    return {stage: round(timings_ms[stage], 3) for stage in stages}


# The one who runs a server is not known to it.
OWNER = "dynrefer"


def model_entry(card: ModelCard, loaded_at: float) -> ModelEntry:
    """The model as an item of OpenAI's list. loaded_at: seconds since the epoch."""
    return ModelEntry(id=card.name, created=int(loaded_at), owned_by=OWNER)


def model_answer(card: ModelCard, settings: Settings) -> ModelOut:
    """The model's card and the limits of requests."""
    limits = (
        "max_body_bytes",
        "max_image_pixels",
        "max_regions",
        "max_images",
        "max_top_k",
        "max_controls",
        "max_control_chars",
        "max_captions",
        "max_beams",
        "max_vocabulary_words",
        "max_vocabulary_chars",
        "max_prompt_points",
        "max_id_chars",
        "max_find_names",
        "max_find_words",
        "max_phrase_chars",
        "max_messages",
        "max_message_chars",
        "max_answers",
        "max_reply_tokens",
    )
    return ModelOut(
        name=card.name,
        revision=card.revision,
        parameters=card.parameters,
        dtype=card.dtype,
        device=card.device,
        views=ViewsOut(count=card.num_views, size=card.view_size),
        vocabulary={task: NamesOut(size=len(names), names=list(names)) for task, names in card.vocabulary.items()},
        task_priors={task: list(views) for task, views in card.task_priors.items()},
        thresholds=dict(card.thresholds),
        limits={**{name: getattr(settings, name) for name in limits}, "max_found_regions": settings.found_regions},
        trained_on=card.trained_on,
        intended_use=card.intended_use,
        batch_invariant=card.batch_invariant,
        capabilities=CapabilitiesOut(
            prompts=list(card.prompts),
            detection=card.detection,
            conversation=card.conversation,
            masks="points" in card.prompts,
        ),
    )

"""Between the contract and the model: a request's fields -> queries, descriptions -> the answer's schema."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from dynrefer.model import (
    TASKS,
    BoxFormat,
    Corners,
    ImageInfo,
    ModelCard,
    RegionDescription,
    RegionQuery,
    Task,
    ViewPlan,
    corners_from,
)
from dynrefer.service.api.schemas import (
    RESULT_SCHEMAS,
    DescribeFields,
    DescribeResponse,
    ImageOut,
    ModelOut,
    NamesOut,
    RegionIn,
    RegionOut,
    ViewOut,
    ViewsOut,
)
from dynrefer.service.engine.results import DescribeResult
from dynrefer.service.inputs.parsing import region_id
from dynrefer.service.observability.metrics import STAGES
from dynrefer.service.settings import Settings


def queries(fields: DescribeFields, info: ImageInfo) -> list[RegionQuery]:
    """One query per region. info: of the image."""
    box_format, size = BoxFormat(fields.box_format), (info.width, info.height)
    given = fields.thresholds.model_dump(exclude_none=True) if fields.thresholds else {}
    thresholds = {Task(name): score for name, score in given.items()}
    return [
        RegionQuery(
            box=corners_from(region.box, box_format, normalized=fields.normalized, image_size=size),
            tasks=fields.task,
            controls=tuple(fields.controls or ()),
            views=fields.views,
            top_k=fields.top_k,
            thresholds=thresholds,
        )
        for region in fields.regions
    ]


def answer(
    request_id: str, model: str, regions: Sequence[RegionIn], described: DescribeResult, total_ms: float
) -> DescribeResponse:
    """The answer's schema. total_ms: since the request's first byte."""
    return DescribeResponse(
        id=request_id,
        model=model,
        image=ImageOut(width=described.info.width, height=described.info.height),
        regions=[
            region_answer(region_id(requested, index), found, {"queue": described.queue_ms[index]})
            for index, (requested, found) in enumerate(zip(regions, described.regions, strict=True))
            if isinstance(found, RegionDescription)
        ],
        timings_ms=_in_order({**described.timings_ms, "total": total_ms}),
    )


def region_answer(name: str, found: RegionDescription, more_ms: Mapping[str, float]) -> RegionOut:
    """One region's schema. more_ms: times of stages outside the model."""
    shared = _viewed(found.plan)
    own: dict[str, dict[str, Any]] = {}
    if found.plan is None:
        own = {task: _viewed(plan) for task, plan in found.plans.items()}
    return RegionOut(
        id=name,
        box=_pixels(found.box, 4),
        clipped=found.clipped,
        **shared,
        **{task.name: _result(found.results.get(task.name), own.get(task.name, {})) for task in TASKS},
        timings_ms=_in_order({**found.timings_ms, **more_ms}),
    )


def _shown(score: float) -> float:
    """Four significant digits: where inference is not batch-invariant, only the seventh depends on the batch."""
    return float(f"{score:.4g}")


def _pixels(box: Corners, digits: int) -> list[float]:
    """Coordinates rounded to so many decimal places."""
    return [round(value, digits) for value in box]


def _viewed(plan: ViewPlan | None) -> dict[str, Any]:
    if plan is None:
        return {}
    # In single precision; a further digit would be noise in images of a few thousand pixels.
    views = [ViewOut(t=view.t, box=_pixels(view.box, 3)) for view in plan.views]
    return {"views": views, "view_policy": plan.policy.value}


def _result(result: Any, viewed: Mapping[str, Any]) -> Any:
    """A task's result in its schema. viewed: the task's own views, where its region has none in common."""
    if result is None:
        return None
    return [_record(each, viewed) for each in result] if isinstance(result, tuple) else _record(result, viewed)


def _record(record: Any, viewed: Mapping[str, Any]) -> BaseModel:
    values = {name: getattr(record, name) for name in record.__dataclass_fields__}
    shown = {name: _shown(value) if isinstance(value, float) else value for name, value in values.items()}
    return RESULT_SCHEMAS[type(record)](**shown, **viewed)


def _in_order(timings_ms: Mapping[str, float]) -> dict[str, float]:
    """Stages in the order in which they happen, to a microsecond."""
    order = {stage: place for place, stage in enumerate(STAGES)}
    stages = sorted(timings_ms, key=lambda stage: order.get(stage, len(order)))
    return {stage: round(timings_ms[stage], 3) for stage in stages}


def model_answer(card: ModelCard, settings: Settings) -> ModelOut:
    """The model's card and the limits of requests."""
    limits = (
        "max_body_bytes",
        "max_image_pixels",
        "max_regions",
        "max_top_k",
        "max_controls",
        "max_control_chars",
        "max_id_chars",
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
        limits={name: getattr(settings, name) for name in limits},
        trained_on=card.trained_on,
        intended_use=card.intended_use,
        batch_invariant=card.batch_invariant,
    )

"""Between the contract of /v1/detect and the model: what was found -> the answer's schema."""

from __future__ import annotations

from collections.abc import Sequence

from dynrefer.model import Findings, FoundRegion, RegionDescription, Translator
from dynrefer.service.api.detect_schemas import AbsentOut, DetectResponse, FoundRegionOut
from dynrefer.service.api.responses import UPRIGHT, Frame, in_order, region_answer, shown
from dynrefer.service.api.schemas import ImageOut
from dynrefer.service.api.vocabulary_schemas import UnknownWordOut
from dynrefer.service.engine.detecting import DetectResult
from dynrefer.service.inputs.region_queries import Orientation


def detect_answer(
    request_id: str,
    model: str,
    orientation: str,
    result: DetectResult,
    total_ms: float,
    translator: Translator | None = None,
) -> DetectResponse:
    """The answer's schema. total_ms: since the request's first byte. translator: of descriptions; None leaves names as
    they are."""
    frame = Frame(result.info, stored=orientation == Orientation.STORED.value)
    (width, height), frames = frame.size, result.info.frames
    described: list[RegionDescription | None] = [*result.descriptions]
    described = described or [None] * len(result.findings.regions)
    return DetectResponse(
        id=request_id,
        model=model,
        image=ImageOut(width=width, height=height, frames=frames if frames > 1 else None),
        regions=found_answers(result.findings, described, frame, translator),
        absent=absent_answers(result.findings),
        unknown_words=unknown_answers(result.findings, described) or None,
        timings_ms=in_order({**result.timings_ms, "total": total_ms}),
    )


def found_answers(
    findings: Findings,
    descriptions: Sequence[RegionDescription | None],
    frame: Frame = UPRIGHT,
    translator: Translator | None = None,
) -> list[FoundRegionOut]:
    """The regions, each with its description where there is one."""
    return [
        _found(str(place), region, description, frame, translator)
        for place, (region, description) in enumerate(zip(findings.regions, descriptions, strict=True))
    ]


def absent_answers(findings: Findings) -> list[AbsentOut]:
    """The names, or noun phrases, without a box."""
    return [AbsentOut(name=each.name, probability=shown(each.probability), span=each.span) for each in findings.absent]


def unknown_answers(findings: Findings, descriptions: Sequence[RegionDescription | None]) -> list[UnknownWordOut]:
    """What nothing is known of, each word once: of those that were asked to be found and those to be described with,
    which are the same for every region."""
    unknown = {word.name: word for word in findings.unknown_words}
    for description in descriptions[:1]:
        unknown |= {word.name: word for word in (description.unknown_words if description else ())}
    return [UnknownWordOut(name=word.name, nearest=list(word.nearest)) for word in unknown.values()]


def _found(
    name: str, region: FoundRegion, description: RegionDescription | None, frame: Frame, translator: Translator | None
) -> FoundRegionOut:
    described = {}
    if description is not None:
        translated = description if translator is None else translator.described(description)
        members = region_answer(name, translated, {}, frame)
        described = {key: value for key, value in members if key in FoundRegionOut.model_fields}
    return FoundRegionOut(
        **{
            **described,
            "id": name,
            "box": frame.box(region.box, 4),
            "label": region.label,
            "score": shown(region.score),
            "probability": shown(region.probability),
            "mask": frame.mask(region.mask),
            "span": region.span,
            "phrase": region.phrase,
            "category": region.category,
            "parent": region.parent,
        }
    )

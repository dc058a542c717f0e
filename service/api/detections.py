"""Between the contract of /v1/detect and the model: what was found -> the answer's schema."""

from __future__ import annotations

from dynrefer.model import FoundRegion, RegionDescription, Translator
from dynrefer.service.api.detect_schemas import AbsentOut, DetectResponse, FoundRegionOut
from dynrefer.service.api.responses import Frame, in_order, region_answer, shown
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
    findings = result.findings
    described: list[RegionDescription | None] = [*result.descriptions]
    described = described or [None] * len(findings.regions)
    regions = [
        _found(str(place), region, description, frame, translator)
        for place, (region, description) in enumerate(zip(findings.regions, described, strict=True))
    ]
    unknown = {word.name: word for word in findings.unknown_words}
    for description in result.descriptions[:1]:  # the same for every region: they share the vocabulary
        unknown |= {word.name: word for word in description.unknown_words}
    return DetectResponse(
        id=request_id,
        model=model,
        image=ImageOut(width=width, height=height, frames=frames if frames > 1 else None),
        regions=regions,
        absent=[
            AbsentOut(name=each.name, probability=shown(each.probability), span=each.span) for each in findings.absent
        ],
        unknown_words=[UnknownWordOut(name=word.name, nearest=list(word.nearest)) for word in unknown.values()] or None,
        timings_ms=in_order({**result.timings_ms, "total": total_ms}),
    )


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

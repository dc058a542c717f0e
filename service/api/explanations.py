"""An explanation's records -> its schema."""

from collections.abc import Callable
from typing import Any

from dynrefer.model import Corners, Explain, ExplainedLabel, Explanation
from dynrefer.service.api.explanation_schemas import (
    ControlWordOut,
    EvidenceOut,
    ExplainedLabelOut,
    ExplainedViewOut,
    ExplainIn,
    ExplanationOut,
    LeftOutOut,
    NameOut,
    SenseOut,
    SupportOut,
    UsedPriorOut,
    WordOut,
)

# Upright corners -> a box in the frame of the answer, rounded to so many decimal places.
InFrame = Callable[[Corners, int], list[float]]


def explain_query(given: ExplainIn | None) -> Explain | None:
    """What the model is asked."""
    return None if given is None else Explain(given.candidates, given.thumbnails, given.evidence)


def explanation_answer(found: Explanation | None, box: InFrame) -> ExplanationOut | None:
    """None without an explanation."""
    if found is None:
        return None
    views = [
        ExplainedViewOut(
            t=view.t,
            box=box(view.box, 3),
            hash=view.hash,
            distance=view.distance,
            gain=None if view.gain is None else round(view.gain, 3),
            chosen=view.chosen,
            tasks=list(view.tasks) or None,
            thumbnail=view.thumbnail,
        )
        for view in found.views
    ]
    priors = [
        # The record's policy is a text, one of the schema's.
        UsedPriorOut(tasks=list(p.tasks), policy=p.policy, t=list(p.views))  # type: ignore[arg-type]
        for p in found.priors
    ]
    return ExplanationOut(
        views=views,
        priors=priors,
        words=_words(found),
        labels=_labels(found),
        controls=None if found.controls is None else [ControlWordOut(**each.to_dict()) for each in found.controls],
        evidence=_evidence(found),
    )


def _words(found: Explanation) -> list[WordOut] | None:
    if found.words is None:
        return None
    words = []
    for each in found.words:
        given = each.to_dict()
        support = each.support
        given["span"] = (given.pop("start"), given.pop("end"))
        given["left_out"] = [LeftOutOut(t=one.t, drop=round(one.drop, 3)) for one in each.left_out] or None
        given["support"] = None if support is None else SupportOut(**_short(support.to_dict()))
        words.append(WordOut(**given))
    return words


def _labels(found: Explanation) -> dict[str, list[ExplainedLabelOut]] | None:
    return {
        task: [ExplainedLabelOut(**{**_short(each.to_dict()), "senses": _senses(each)}) for each in labels]
        for task, labels in found.labels.items()
    } or None


def _senses(label: ExplainedLabel) -> list[SenseOut] | None:
    return [SenseOut(**each.to_dict()) for each in label.senses] or None


def _evidence(found: Explanation) -> EvidenceOut | None:
    if found.identity is None:
        return None
    given = _short(found.identity.to_dict())
    given["parent"] = given.pop("is_parent")
    for key in ("names", "colours"):
        given[key] = [NameOut(**_short(each)) for each in given[key]] or None
    return EvidenceOut(**given)


def _short(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers with four significant digits, as everywhere in the answer."""
    return {name: float(f"{each:.4g}") if isinstance(each, float) else each for name, each in values.items()}

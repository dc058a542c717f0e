"""The `explanation` of a region's answer -> its records. Raises as `records.py`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dynrefer.model import Explanation
from dynrefer.model.explanation import (
    ControlWord,
    ExplainedIdentity,
    ExplainedLabel,
    ExplainedView,
    ExplainedWord,
    LeftOut,
    NameProbability,
    PlacedSense,
    Support,
    UsedPrior,
)

Document = Mapping[str, Any]


def explanation(given: Document) -> Explanation:
    """Why a region was described as it was."""
    labels = {task: tuple(map(_label, each)) for task, each in given.get("labels", {}).items()}
    return Explanation(
        views=tuple(map(_view, given["views"])),
        priors=tuple(UsedPrior(tuple(each["tasks"]), each["policy"], tuple(each["t"])) for each in given["priors"]),
        words=tuple(map(_word, given["words"])) if "words" in given else None,
        labels=labels,
        controls=tuple(_flat(ControlWord, each) for each in given["controls"]) if "controls" in given else None,
        identity=_identity(given["evidence"]) if "evidence" in given else None,
    )


def _flat(kind: Any, given: Document, **members: Any) -> Any:
    """A dataclass of the members that have its fields' names, and of those that are read already."""
    named = {each.name: given[each.name] for each in fields(kind) if each.name in given}
    return kind(**{**named, **members})


def _view(given: Document) -> ExplainedView:
    x1, y1, x2, y2 = given["box"]
    return ExplainedView(
        given["t"],
        (float(x1), float(y1), float(x2), float(y2)),
        given["hash"],
        given["distance"],
        given.get("gain"),
        tuple(given.get("tasks", ())),
        given.get("thumbnail"),
    )


def _label(given: Document) -> ExplainedLabel:
    senses = tuple(_flat(PlacedSense, each) for each in given.get("senses", ()))
    label: ExplainedLabel = _flat(ExplainedLabel, given, senses=senses)
    return label


def _word(given: Document) -> ExplainedWord:
    start, end = given["span"]
    word: ExplainedWord = _flat(
        ExplainedWord,
        given,
        start=start,
        end=end,
        support=_flat(Support, given["support"]) if "support" in given else None,
        left_out=tuple(_flat(LeftOut, each) for each in given.get("left_out", ())),
    )
    return word


def _identity(given: Document) -> ExplainedIdentity:
    identity: ExplainedIdentity = _flat(
        ExplainedIdentity,
        given,
        is_parent=given["parent"],
        names=tuple(_flat(NameProbability, each) for each in given["names"]),
        colours=tuple(_flat(NameProbability, each) for each in given.get("colours", ())),
    )
    return identity

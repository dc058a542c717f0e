"""Saved predictions, one JSON object per line, so that a run can be measured again without the model.

A line names its region by the annotation's id and holds what the service answers about a region:
{"region": 7, "image": 1, "box": [10, 20, 60, 80], "caption": {"text": "a red dog", "score": 0.4},
"attributes": [{"name": "color:red", "score": 0.9, "probability": 0.8}], "categories": [...]}
`score` beside `box` is the detector's. `probability` is optional; without it there is no calibration plot.
{"region": 8, "image": 2, "skipped": "..."} stands for a region that was left out because of its image, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box
from dynrefer.model.types import Corners, Task
from dynrefer.workbench.data.annotation_values import Id, check_text, identifier_of, number_of, shown
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.data.json_files import read_json_lines
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.errors import BadSampleError, DataError
from dynrefer.workbench.evaluation.inference import QueryResults


class SavedLabel(BaseModel):
    """One attribute or category: `score` ranks it; `probability`, in [0, 1], is calibrated."""

    name: str
    score: float
    probability: float | None = None


class SavedCaption(BaseModel):
    """A caption. `score`: the model's; ranks dense captions whose boxes have no score."""

    text: str
    score: float | None = None


class Prediction(BaseModel):
    """One line. region: the annotation's id; optional for dense captions, whose boxes may be a detector's.

    box: xyxy pixels in the frame of the annotations. skipped: why the region was left out; then it has no answer.
    """

    image: Id
    region: Id | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    caption: SavedCaption | None = None
    attributes: list[SavedLabel] | None = None
    categories: list[SavedLabel] | None = None
    skipped: str | None = None


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file. Raises `DataError` for a missing or empty file, and for a line that is not a prediction.

    Numbers are finite, boxes neither inverted nor empty, probabilities in [0, 1]: what is not is no answer of a model,
    and would be measured as if it were. Members that measuring does not use are ignored; null is "not there".
    """
    found = []
    for where, raw in read_json_lines(path):
        try:
            found.append(_prediction(raw))
        except BadSampleError as error:
            raise DataError(f"{where}: {error}.") from error
    if not found:
        raise DataError(f"{path} holds no predictions; it needs one JSON object per line.")
    return found


def _prediction(members: Any) -> Prediction:
    """Raises `BadSampleError`."""
    if not isinstance(members, dict):
        raise BadSampleError("it is not a JSON object")
    image = _identifier(members, "image")
    if image is None:
        raise BadSampleError("image is missing; it is the id of an image")
    skipped = members.get("skipped")
    return Prediction(
        image=image,
        region=_identifier(members, "region"),
        box=_box(members.get("box")),
        score=_number(members, "score", "score"),
        caption=_caption(members.get("caption")),
        attributes=_labels(members, "attributes"),
        categories=_labels(members, "categories"),
        skipped=None if skipped is None else _text(skipped, "skipped"),
    )


def _identifier(members: Mapping[str, Any], name: str) -> Id | None:
    value = members.get(name)
    found = identifier_of(value)
    if found is None and value is not None:
        raise BadSampleError(f"{name} {shown(value)} is neither a whole number nor a text")
    return found


def _number(members: Mapping[str, Any], name: str, place: str) -> float | None:
    """place: of the member in the line."""
    value = members.get(name)
    try:
        return None if value is None else number_of(value)
    except ValueError as error:
        raise BadSampleError(f"{place} {error}") from error


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise BadSampleError(f"{place} {shown(value)} is not a text")
    check_text(value, place)
    return value


def _box(value: object) -> Corners | None:
    if value is None:
        return None
    try:
        if not isinstance(value, list):
            raise ValueError
        x1, y1, x2, y2 = (number_of(each) for each in value)
    except ValueError as error:
        raise BadSampleError(f"box {shown(value)} is not [x1, y1, x2, y2] in finite numbers") from error
    try:
        return Box(x1, y1, x2, y2).corners
    except BoxError as error:
        raise BadSampleError(str(error).rstrip(".").replace("The box", "box", 1)) from error


def _caption(value: object) -> SavedCaption | None:
    """A text, or an object with `text` and perhaps `score`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return SavedCaption(text=_text(value, "caption"))
    return SavedCaption(text=_text(value.get("text"), "caption.text"), score=_number(value, "score", "caption.score"))


def _labels(members: Mapping[str, Any], name: str) -> list[SavedLabel] | None:
    """Without the broader words that the service puts in front of the names that it scores."""
    listed = members.get(name)
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise BadSampleError(f"{name} is not a list")
    found: dict[str, SavedLabel] = {}
    for number, each in enumerate(listed):
        place = f"{name}[{number}]"
        if not isinstance(each, dict):
            raise BadSampleError(f"{place} is not an object")
        if each.get("level") is not None:
            continue
        label = _label(each, place)
        if label.name in found:
            raise BadSampleError(f"{place} scores {shown(label.name)!r} a second time")
        found[label.name] = label
    return list(found.values())


def _label(members: Mapping[str, Any], place: str) -> SavedLabel:
    name, score = _text(members.get("name"), f"{place}.name"), _number(members, "score", f"{place}.score")
    if score is None:
        raise BadSampleError(f"{place}.score is missing; it ranks {shown(name)!r}")
    probability = _number(members, "probability", f"{place}.probability")
    if probability is not None and not 0 <= probability <= 1:
        raise BadSampleError(f"{place}.probability {probability:g} is not between 0 and 1")
    return SavedLabel(name=name, score=score, probability=probability)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write the file atomically. Raises `DataError` if it cannot be written."""
    try:
        with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for each in predictions:
                file.write(each.model_dump_json(exclude_none=True) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}.") from error


@dataclass(frozen=True)
class DenseCaption:
    """A box with its caption; boxes are ranked by score, highest first."""

    region: LabelledRegion
    score: float
    text: str


def predictions_from(data: LabelledData, results: QueryResults) -> list[Prediction]:
    """The results of `run_queries` for the regions of `data`, ready to be saved."""
    found = []
    for row, region in enumerate(data.regions):
        labels: dict[str, Any] = {task.value: _saved_labels(data, results, task, row) for task in results.scores}
        caption = None
        if results.captions:
            caption = SavedCaption(text=results.captions[row], score=results.caption_scores[row])
        known: dict[str, Any] = {"region": region.id, "image": region.image, "box": region.box, "score": region.score}
        found.append(Prediction(**known, caption=caption, **labels))
    return found


def skipped_from(data: LabelledData) -> list[Prediction]:
    """The lines of the regions that were left out because of their images."""
    return [Prediction(image=image, region=region, skipped=why) for region, (image, why) in data.left_out.items()]


def without_skipped(
    data: LabelledData, predictions: Sequence[Prediction]
) -> tuple[LabelledData, list[Prediction]]:  # fmt: skip
    """Both without the regions that were left out when the predictions were made."""
    skipped = {each.region: (each.image, each.skipped) for each in predictions if each.skipped is not None}
    left_out = {region: about for region, about in skipped.items() if region is not None}
    kept = [each for each in predictions if each.skipped is None]
    return (data.without(left_out) if left_out else data), kept


def _saved_labels(data: LabelledData, results: QueryResults, task: Task, row: int) -> list[SavedLabel]:
    rows = zip(data.names[task], results.scores[task][row], results.probabilities[task][row], strict=True)
    return [SavedLabel(name=name, score=float(s), probability=round(float(p), 6)) for name, s, p in rows]


def named_categories(predictions: Sequence[Prediction]) -> list[str]:
    """Every category that the predictions score, in order of first appearance."""
    return list(dict.fromkeys(label.name for each in predictions for label in each.categories or ()))


def captions_for(data: LabelledData, predictions: Sequence[Prediction]) -> list[str]:
    """One caption per region of `data`. Raises `DataError` for a prediction that is missing or has no caption."""
    return [_required(each, each.caption, "caption").text for each in _aligned(data, predictions)]


def results_for(data: LabelledData, predictions: Sequence[Prediction], task: Task) -> QueryResults:
    """Scores and probabilities of attributes or categories per region of `data`.

    Probabilities are NaN where a prediction has none. Raises `DataError` for a missing prediction or label.
    """
    results = QueryResults((task,), data)
    names = data.names[task]
    for row, each in enumerate(_aligned(data, predictions)):
        labels = {label.name: label for label in _required(each, getattr(each, task.value), task.value)}
        for column, name in enumerate(names):
            if name not in labels:
                raise DataError(
                    f"the prediction for region {each.region!r} has no score for {name!r} among its {task.value}."
                )
            results.scores[task][row, column] = labels[name].score
            probability = labels[name].probability
            results.probabilities[task][row, column] = np.nan if probability is None else probability
    return results


def dense_captions_for(data: LabelledData, predictions: Sequence[Prediction]) -> list[DenseCaption]:
    """Boxes with captions. A box comes from the prediction or, by its region's id, from `data`. Raises `DataError`."""
    return list(_dense(data, predictions))


def _dense(data: LabelledData, predictions: Sequence[Prediction]) -> Iterator[DenseCaption]:
    known = {region.id: region for region in data.regions}
    for place, each in enumerate(predictions, 1):
        if each.image not in data.images:
            raise DataError(f"prediction {place}: image {each.image!r} is not among the images of {data.source}.")
        box = each.box
        if box is None and each.region in known:
            box = known[each.region].box
        if box is None:
            raise DataError(f"prediction {place} has no box.")
        caption = _required(each, each.caption, "caption")
        score = each.score if each.score is not None else caption.score
        if score is None:
            raise DataError(f"prediction {place} has no score; dense captions are ranked by it.")
        yield DenseCaption(LabelledRegion(place, each.image, box), score, caption.text)


def _aligned(data: LabelledData, predictions: Sequence[Prediction]) -> list[Prediction]:
    """One prediction per region, in the order of `data`."""
    by_region: dict[Id, Prediction] = {}
    for place, each in enumerate(predictions, 1):
        if each.image not in data.images:
            raise DataError(f"prediction {place}: image {each.image!r} is not among the images of {data.source}.")
        if each.region is None:
            raise DataError(f"prediction {place} names no region; it needs the id of an annotation of {data.source}.")
        if each.region in by_region:
            raise DataError(f"prediction {place}: region {each.region!r} is predicted twice.")
        by_region[each.region] = each
    return [_of_region(region, by_region, data.source) for region in data.regions]


def _of_region(region: LabelledRegion, by_region: Mapping[Id, Prediction], source: str) -> Prediction:
    for name in (region.id, *region.aliases):
        if name in by_region:
            found = by_region[name]
            if found.image != region.image:
                raise DataError(
                    f"the prediction for region {name!r} says image {found.image!r}, {source} {region.image!r}."
                )
            return found
    raise DataError(f"there is no prediction for region {region.id!r} of {source}.")


def _required(each: Prediction, value: Any, what: str) -> Any:
    if value is None:
        raise DataError(
            f"the prediction for region {each.region!r} of image {each.image!r} has no {what}; was it saved with "
            "another --task?"
        )
    return value

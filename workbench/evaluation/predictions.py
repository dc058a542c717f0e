"""Saved predictions, one JSON object per line, so that a run can be measured again without the model.

A line names its region by the annotation's id and holds what the service answers about a region:
{"region": 7, "image": 1, "box": [10, 20, 60, 80], "caption": {"text": "a red dog", "score": 0.4},
"attributes": [{"name": "color:red", "score": 0.9, "probability": 0.8}], "categories": [...]}
`score` beside `box` is the detector's. `probability` is optional; without it there is no calibration plot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from dynrefer.model.types import Task
from dynrefer.workbench.data.annotation_values import Id
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.data.json_files import read_json_lines, validated
from dynrefer.workbench.data.labelled import LabelledData, LabelledRegion
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.inference import QueryResults


class SavedLabel(BaseModel):
    """One attribute or category: `score` ranks it, `probability` is calibrated."""

    name: str
    score: float
    probability: float | None = None


class SavedCaption(BaseModel):
    """A caption. `score`: the model's; ranks dense captions whose boxes have no score."""

    text: str
    score: float | None = None


class Prediction(BaseModel):
    """One line. region: the annotation's id; optional for dense captions, whose boxes may be a detector's."""

    model_config = ConfigDict(extra="ignore")

    image: Id
    region: Id | None = None
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    caption: SavedCaption | None = None
    attributes: list[SavedLabel] | None = None
    categories: list[SavedLabel] | None = None

    @field_validator("caption", mode="before")
    @classmethod
    def _plain_text(cls, value: object) -> object:
        """A caption may be a plain string."""
        return {"text": value} if isinstance(value, str) else value


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file. Raises `DataError` for a missing or empty file, and for a line that is not a prediction."""
    found = [validated(Prediction, raw, where) for where, raw in read_json_lines(path)]
    if not found:
        raise DataError(f"{path} holds no predictions; it needs one JSON object per line.")
    return found


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
        labels = {task.value: _saved_labels(data, results, task, row) for task in results.scores}
        caption = None
        if results.captions:
            caption = SavedCaption(text=results.captions[row], score=results.caption_scores[row])
        found.append(
            Prediction(
                region=region.id, image=region.image, box=region.box, score=region.score, caption=caption, **labels
            )
        )
    return found


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

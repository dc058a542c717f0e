"""Metrics of a model on labelled photographs: what `dynrefer evaluate --photos DIR` prints.

Each box is asked as a user asks who sets nothing: all tasks, the image prior, the default thresholds and `top_k`. With
`--sweep-views` the views are fixed instead, to see how the quality depends on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dynrefer.model.errors import AnnotatedImageError, QueryError
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.images import annotated_image
from dynrefer.model.types import ALL_TASKS, Corners, RegionDescription, RegionQuery, Task
from dynrefer.workbench.data.frames import Frame, is_stored, upright_boxes
from dynrefer.workbench.data.json_files import read_json
from dynrefer.workbench.data.photographs import COLOURS, LabelledBox, LabelledPhotograph
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evaluation.inference import RegionPredictor, Views
from dynrefer.workbench.evaluation.metrics.curves import Curves, reliability
from dynrefer.workbench.evaluation.metrics.photograph_metrics import (
    Ancestors,
    Verdict,
    ancestors_among,
    counted_claims,
    counted_parents,
    judge,
    name_calibration,
    photograph_metrics,
    words_as_ancestors,
)
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate
from dynrefer.workbench.evaluation.policies import arrangements
from dynrefer.workbench.evaluation.report.tables import json_metrics, json_value
from dynrefer.workbench.evaluation.view_study import T_STEPS, ViewStudy

# What the model took a region for: "drawing" or "photograph"; None where its answer does not say.
Decide = Callable[[RegionDescription], str | None]
OVER_VIEWS = ("top1", "top5", "caption_names_it", "caption_true")


@dataclass(frozen=True)
class DescribedBox:
    """A box of a photograph, what the model says of it, and what of that is right. file: the photograph's name."""

    file: str
    split: str | None
    truth: LabelledBox
    found: RegionDescription
    verdict: Verdict
    decision: str | None


@dataclass(frozen=True)
class PhotographResult:
    """boxes: every box that was measured. gate: what was asked ("photographs", "drawings") -> decision -> count, empty
    if the model's answers hold no decision. about: further members of the result."""

    boxes: tuple[DescribedBox, ...]
    gate: Mapping[str, Mapping[str, int]]
    about: Mapping[str, Any]

    @cached_property
    def splits(self) -> dict[str, dict[str, Estimate]]:
        """Split -> its metrics, for the splits that the labels name."""
        names = sorted({each.split for each in self.boxes if each.split})
        return {name: metrics_of([each for each in self.boxes if each.split == name]) for name in names}

    @cached_property
    def result(self) -> dict[str, Any]:
        """JSON-ready."""
        verdicts = [each.verdict for each in self.boxes]
        metrics = metrics_of(self.boxes)
        notes = {}
        if metrics["colour_said"].value is None:
            notes["colour_said"] = "the labels give no colours; --colours FILE may"
        if metrics["colour_right"].value is None:
            notes["colour_right"] = notes.get("colour_said", "no colour is said of a box whose colours are labelled")
        return {
            **json_metrics(metrics),
            "calibration_error": {"name": json_value(reliability(*name_calibration(verdicts)).error)},
            "false_nouns": sum(each.false_noun for each in verdicts),
            "parents": counted_parents(verdicts),
            "other_words": counted_claims(verdicts),
            **({"gate": self.gate} if self.gate else {}),
            **({"by_split": {name: json_metrics(found) for name, found in self.splits.items()}} if self.splits else {}),
            "boxes": len(self.boxes),
            "photographs": len({each.file for each in self.boxes}),
            **self.about,
            **({"notes": notes} if notes else {}),
        }

    @property
    def curves(self) -> Curves:
        """How often the first leaf is right, over its probability: of all boxes and of each split."""
        groups = {"name": list(self.boxes)}
        if len(self.splits) > 1:
            groups |= {f"name, {split}": [b for b in self.boxes if b.split == split] for split in self.splits}
        return Curves(
            reliability={
                name: reliability(*name_calibration([each.verdict for each in boxes])) for name, boxes in groups.items()
            }
        )


def metrics_of(boxes: Sequence[DescribedBox]) -> dict[str, Estimate]:
    """As `photograph_metrics`."""
    return photograph_metrics([each.truth for each in boxes], [each.verdict for each in boxes])


def of_split(photographs: Sequence[LabelledPhotograph], split: str | None) -> tuple[LabelledPhotograph, ...]:
    """The photographs of a split, or all. Raises `DataError` if there are none; the message lists the known splits."""
    chosen = tuple(each for each in photographs if split is None or each.split == split)
    if not chosen:
        known = sorted({str(each.split) for each in photographs if each.split})
        raise DataError(
            f"--split {split}: the labels name no such split, only {', '.join(known)}."
            if known
            else f"--split {split}: the labels name no splits."
        )
    return chosen


def with_colours(photographs: Sequence[LabelledPhotograph], path: Path) -> tuple[LabelledPhotograph, ...]:
    """The photographs with the true colours of a file, {name of the photograph: [colour words]}.

    They replace those of the labels; a photograph that the file leaves out keeps its own. Raises `DataError` for a file
    that is not of this form, a photograph that is not in the set or has several boxes, and an unknown colour.
    """
    given = read_json(path)
    if not isinstance(given, dict):
        raise DataError(f"{path} is not a JSON object of photographs and their colours.")
    boxes = {each.path.name: len(each.boxes) for each in photographs}
    for name, colours in given.items():
        if name not in boxes:
            raise DataError(f"{path}: {name!r} is not among the photographs that are measured.")
        if boxes[name] > 1:
            raise DataError(f"{path}: {name!r} has {boxes[name]} boxes; their colours belong into the labels.")
        if not isinstance(colours, list) or not all(isinstance(each, str) for each in colours):
            raise DataError(f"{path}: the colours of {name!r} are not a list of words.")
        for colour in colours:
            if colour not in COLOURS:
                raise DataError(f"{path}: {name!r} has the colour {colour!r}; it must be one of {_listed(COLOURS)}.")
    return tuple(
        replace(each, boxes=(replace(each.boxes[0], colours=tuple(given[each.path.name])),))
        if each.path.name in given
        else each
        for each in photographs
    )


def names_as_ancestors(directory: Path) -> Ancestors:
    """The broader words that a model's own names know, or `words_as_ancestors` if it has no names for photographs.

    directory: the model's. Raises `ConfigError` for names that are malformed.
    """
    path = directory / "evidence" / NAMES_FILE
    if not path.is_file():
        return words_as_ancestors
    names = EvidenceNames.load(path)
    spelled = [(word, entry.parents) for entry in names.names for word in (entry.name, *entry.synonyms)]
    return ancestors_among([*spelled, *((entry.name, entry.parents) for entry in names.parents)])


def measure_photographs(
    predictor: RegionPredictor,
    photographs: Sequence[LabelledPhotograph],
    *,
    ancestors: Ancestors = words_as_ancestors,
    decide: Decide = lambda found: None,
    drawings: Iterable[ImageRegions] = (),
    about: Mapping[str, Any] | None = None,
) -> PhotographResult:
    """Describe every box and compare the description with its labels.

    ancestors: the model's broader words for a name, for boxes whose labels list no parents. decide: what the model took
    a region for. drawings: regions of drawings, to see what the model takes those for; read only if `decide` says
    anything about the photographs. about: further members of the result. Raises `DataError` for a photograph that
    cannot be read, is of another size than its labels say, or has a box that the model refuses.
    """
    started = time.perf_counter()
    boxes = tuple(describe_boxes(predictor, photographs, ancestors=ancestors, decide=decide))
    gate: dict[str, dict[str, int]] = {}
    if any(each.decision for each in boxes):
        gate["photographs"] = _counted(each.decision for each in boxes)
        gate["drawings"] = _counted(_decisions(predictor, drawings, decide))
    known = {
        **(about or {}),
        "model": predictor.card.name,
        "revision": predictor.card.revision,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return PhotographResult(boxes, {name: counts for name, counts in gate.items() if counts}, known)


def describe_boxes(
    predictor: RegionPredictor,
    photographs: Sequence[LabelledPhotograph],
    *,
    views: Views | None = None,
    ancestors: Ancestors = words_as_ancestors,
    decide: Decide = lambda found: None,
    title: str = "photographs",
) -> Iterable[DescribedBox]:
    """The boxes in order, each with its description. views: t values for all boxes; None: the image prior."""
    known = predictor.card.vocabulary[Task.CATEGORIES.value]
    for photograph in tqdm(photographs, desc=title, unit="photograph", disable=None):
        pixels, corners = _upright(photograph)
        described = _describe(predictor, pixels, corners, views, photograph.path.name)
        for truth, found in zip(photograph.boxes, described, strict=True):
            split = None if photograph.split is None else str(photograph.split)
            verdict = judge(truth, found, known, ancestors)
            yield DescribedBox(photograph.path.name, split, truth, found, verdict, decide(found))


def quality_over_views(
    predictor: RegionPredictor, photographs: Sequence[LabelledPhotograph], ancestors: Ancestors = words_as_ancestors
) -> ViewStudy:
    """The metrics of OVER_VIEWS with a second view at t for every box; t = 0: with the box alone."""
    over_t = {}
    for t in T_STEPS:
        views = arrangements((0.0, t) if t else (0.0,), predictor.card.num_views)[0]
        boxes = describe_boxes(predictor, photographs, views=views, ancestors=ancestors, title=f"t = {t:g}")
        found = metrics_of(list(boxes))
        over_t[t] = {name: found[name] for name in OVER_VIEWS}
    return ViewStudy(over_t, {})


def _describe(
    predictor: RegionPredictor, pixels: NDArray[np.uint8], corners: Sequence[Corners], views: Views | None, name: str
) -> list[RegionDescription]:
    # With tasks but without views each task would use its own prior; without tasks all run, with the image prior.
    queries = [RegionQuery(box, tasks=None if views is None else ALL_TASKS, views=views) for box in corners]
    try:
        prepared = list(predictor.prepare(pixels, queries))
    except QueryError as error:
        raise DataError(f"{name}: {error}") from error
    return [predictor.finish(*each) for each in zip(prepared, predictor.run(prepared), strict=True)]


def _decisions(predictor: RegionPredictor, drawings: Iterable[ImageRegions], decide: Decide) -> Iterable[str | None]:
    for drawing in tqdm(drawings, desc="drawings", unit="image", disable=None):
        for found in _describe(predictor, drawing.load(), drawing.boxes, None, drawing.name):
            yield decide(found)


def _counted(decisions: Iterable[str | None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for decision in decisions:
        counts[decision or "undecided"] = counts.get(decision or "undecided", 0) + 1
    return counts


def _upright(photograph: LabelledPhotograph) -> tuple[NDArray[np.uint8], tuple[Corners, ...]]:
    """(H, W, 3) uint8 RGB, and the boxes in its frame, xyxy pixels."""
    boxes = tuple(box.box for box in photograph.boxes)
    try:
        image = annotated_image(photograph.path)
        stored = is_stored(image.info, photograph.size, boxes, Frame.AUTO)
    except AnnotatedImageError as error:
        raise DataError(f"{photograph.path.name}: {error}.") from error
    return image.pixels, upright_boxes(boxes, image.info, stored=stored)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))

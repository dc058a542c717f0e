"""What a region's request asked in words of its own, answered: logits and identity -> records, in the client's words.

Without an identity every word has a logit of the text tower. With one, a word that is a thing has the probability that
the region's object is that thing, whatever else is asked: a picture of a cat, asked "dog" or "car", is neither.

Shapes: N = words of a list, S = those that the text tower scores, K = names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.asked_words import AskedTask
from dynrefer.model.evidence.colour import COLOURS
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.labels import UNPROVEN
from dynrefer.model.request_vocabulary import RequestVocabulary
from dynrefer.model.tasks import TASKS_BY_NAME
from dynrefer.model.tasks.attributes import AttributeLabel
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.scoring import LabelTask, best_labels, logit, sigmoid

if TYPE_CHECKING:
    from dynrefer.model.loading import LoadedModel

Floats = NDArray[np.float32]

SURE = 0.5  # least probability of a word that a caption takes up


def asked_result(
    loaded: LoadedModel,
    task_name: str,
    asked: AskedTask,
    outputs: tuple[Mapping[str, Floats], Identity | None],
    threshold: float | None,
    default: float | None,
    top_k: int,
) -> tuple[Any, ...]:
    """A task's records.

    outputs: task -> (S,) logits, and the region's identity. threshold: the request's; default: of words that have none,
    where the request has none either.
    """
    task: LabelTask[Any] = TASKS_BY_NAME[task_name]  # type: ignore[assignment]  # lists of words are of tasks that score
    logits, identity = outputs
    scores, probabilities = _scored(loaded, task, asked, logits.get(task_name), identity)
    known = np.flatnonzero(~np.isnan(scores))
    least = _least(asked, threshold, default)[known]
    names = [asked.names[i] for i in known]
    labels = best_labels(names, scores[known], probabilities[known], least, top_k)
    if not asked.attributes:
        return labels
    by_name = {attribute.name: attribute for attribute in asked.attributes}
    return tuple(
        AttributeLabel(x.name, by_name[x.name].type, by_name[x.name].value, x.score, x.probability) for x in labels
    )


def asked_identity(
    loaded: LoadedModel, vocabulary: RequestVocabulary | None, identity: Identity | None
) -> Identity | None:
    """The identity as a caption says it: by the request's most specific category that is at least as likely as not.

    The most specific is the one with the least below it, of equal ones the more likely, then the first.
    """
    if identity is None or vocabulary is None or vocabulary.categories is None or loaded.asked_words.placement is None:
        return identity
    asked = loaded.asked_words.of(vocabulary)[CategoriesTask.name]
    each = loaded.asked_words.placement.probabilities(asked.placed, identity)
    likely = np.flatnonzero(each >= SURE).tolist()
    if not likely:
        return identity
    best = min(likely, key=lambda place: (asked.placed[place].breadth(identity.photograph), -each[place], place))
    name = asked.names[asked.placed_owner[best]]
    return replace(identity, name=name, probability=float(each[best]), is_parent=False)


def _scored(
    loaded: LoadedModel, task: LabelTask[Any], asked: AskedTask, logits: Floats | None, identity: Identity | None
) -> tuple[Floats, Floats]:
    """Scores and probabilities (N,); NaN for words that the model knows nothing about."""
    raw = np.full(len(asked.names), np.nan, np.float32)
    if logits is not None:
        raw[asked.scored] = logits
    of_categories = task.name == CategoriesTask.name
    if identity is None or loaded.asked_words.placement is None:
        calibrated = _calibrated(loaded, task, asked, raw)
        if of_categories:
            return raw, _softmax(calibrated)
        return sigmoid(raw), sigmoid(calibrated)
    probabilities = sigmoid(task.calibrated(loaded, raw))
    if identity.photograph:
        probabilities = np.where(np.isnan(raw), np.nan, _of_photograph(asked, probabilities, identity))
        raw = task.logits_of(loaded, probabilities)
    things = _of_things(loaded, asked, identity)
    is_thing = ~np.isnan(things) & ~(things < probabilities)
    if of_categories:
        scores = CategoriesTask().scores_of(loaded, things)
        if asked.calibration is not None:
            return scores, np.minimum(np.exp(_calibrated(loaded, task, asked, scores)), 1.0).astype(np.float32)
        return scores, things
    raw = np.where(is_thing, _thing_logits(loaded, task, things), raw).astype(np.float32)
    probabilities = np.where(is_thing, things, probabilities).astype(np.float32)
    if asked.calibration is not None:
        probabilities = sigmoid(_calibrated(loaded, task, asked, raw))
    return sigmoid(raw), probabilities


def _of_things(loaded: LoadedModel, asked: AskedTask, identity: Identity) -> Floats:
    """(N,) that the region's object is each word, by its best synonym; NaN for words that have no place."""
    found = np.full(len(asked.names), np.nan, np.float32)
    if asked.placed and loaded.asked_words.placement is not None:
        each = loaded.asked_words.placement.probabilities(asked.placed, identity)
        np.fmax.at(found, asked.placed_owner, each.astype(np.float32))
    return found


def _of_photograph(asked: AskedTask, probabilities: Floats, identity: Identity) -> Floats:
    """Colours as they were measured; of whatever else the drawn network says of a photograph at most a half."""
    measured = dict(zip(COLOURS, identity.colours.tolist(), strict=True)) if len(identity.colours) else {}
    found = UNPROVEN * probabilities
    for index, colour in asked.colours.items():
        found[index] = measured.get(colour, 0.0)
    return found


def _thing_logits(loaded: LoadedModel, task: LabelTask[Any], probabilities: Floats) -> Floats:
    """The logits whose score is the model's threshold where the probability is a half."""
    own = np.array([loaded.network.config.thresholds[task.name]], dtype=np.float32)
    return (logit(probabilities) + logit(own)).astype(np.float32)


def _calibrated(loaded: LoadedModel, task: LabelTask[Any], asked: AskedTask, logits: Floats) -> Floats:
    if asked.calibration is None:
        return task.calibrated(loaded, logits)
    scale, bias = asked.calibration
    return (logits * scale + bias).astype(np.float32)


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max())
    probabilities: Floats = (exponentials / exponentials.sum()).astype(np.float32)
    return probabilities


def _least(asked: AskedTask, threshold: float | None, default: float | None) -> Floats:
    """(N,) below which, or at which, a word is not returned."""
    if threshold is not None:
        return np.full(len(asked.names), threshold, np.float32)
    least = -np.inf if default is None else default
    return np.where(np.isnan(asked.thresholds), np.float32(least), asked.thresholds)

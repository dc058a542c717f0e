"""The tasks of Hugging Face that the service can do: what each asks of it, and which parameters it honours.

A parameter becomes members of a request of /v1/describe or /v1/detect; values are checked there. What cannot be
honoured is refused by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynrefer.service.errors import InvalidRequestError, NotFoundError
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.hugging_face.answers import (
    Write,
    labels_answer,
    objects_answer,
    segments_answer,
    texts_answer,
)

Members = Mapping[str, Any]
# A parameter's value -> members of the service's own document.
Reader = Callable[[Any], Members]


@dataclass(frozen=True, slots=True)
class HubTask:
    """A task.

    finds: whether regions are found, else they are described. fixed: members of every request. parameters: those that
    are honoured. write: records -> the answer. required: a parameter without which there is nothing to do, and the
    member of the document that it becomes, which the query may give too. reserved: query parameters that the answer
    has no place for, beside those of `fixed`.
    """

    name: str
    finds: bool
    fixed: Members
    parameters: Mapping[str, Reader]
    write: Write
    required: tuple[str, str] | None = None
    reserved: Sequence[str] = field(default_factory=tuple)


def task_of(name: str) -> HubTask:
    """Raises NotFoundError with those that there are."""
    if name in TASKS:
        return TASKS[name]
    if name.endswith("question-answering"):
        raise NotFoundError(f"This service describes regions and answers no questions; it does {', '.join(TASKS)}.")
    raise NotFoundError(f"There is no task '{printable(name)}' here; this service does {', '.join(TASKS)}.")


def read_parameters_of(task: HubTask, given: Any) -> dict[str, Any]:
    """The payload's `parameters` -> members of the document. Raises InvalidRequestError for what is not honoured.

    null is what clients write for a parameter that is not given.
    """
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise InvalidRequestError.at("/parameters", "An object with the task's parameters is expected.")
    return _read(given, task.parameters, f"The task {task.name}")


def _read(given: Mapping[str, Any], readers: Mapping[str, Reader], holder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in readers:
            raise InvalidRequestError.at(f"/{printable(name)}", _refusal(name, readers, holder))
        if value is None:
            continue
        for member, content in readers[name](value).items():
            if member in found and found[member] != content:
                raise InvalidRequestError.at(
                    f"/{name}", f"'{name}' differs from another parameter that means the same."
                )
            found[member] = content
    return found


def _refusal(name: str, known: Mapping[str, Reader], holder: str) -> str:
    if name in NOT_HONOURED:
        return f"'{name}' cannot be honoured: {NOT_HONOURED[name]}; leave it out."
    takes = ", ".join(known) if known else "no parameters"
    return f"Unknown parameter '{printable(name)}'. {holder} takes {takes}."


def _as(member: str) -> Reader:
    """A parameter that is a member under another name, or its own."""
    return lambda value: {member: value}


def _categories(labels: Any) -> Members:
    # All labels come back, as the client expects.
    count = len(labels) if isinstance(labels, list) else 0
    return {"vocabulary": {"categories": labels}, "top_k": max(1, count)}


def _only(name: str, value: Any, accepted: Any, why: str) -> Members:
    if value is not accepted and value != accepted or isinstance(value, bool) != isinstance(accepted, bool):
        raise InvalidRequestError.at(f"/{name}", f"'{name}' can only be {_shown(accepted)}: {why}.")
    return {}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"'{value}'"


def _sampling(value: Any) -> Members:
    return _only("do_sample", value, False, "captions are found by beam search")


def _subtask(value: Any) -> Members:
    return _only("subtask", value, "instance", "each object has a mask of its own")


def _generation(value: Any) -> Members:
    if not isinstance(value, dict):
        raise InvalidRequestError.at("/generation_parameters", "An object is expected.")
    return _read(value, GENERATION, "generation_parameters")


_SEARCH = "captions are found by beam search alone"
NOT_HONOURED: Mapping[str, str] = {
    "hypothesis_template": "the model has its own way to read labels",
    "mask_threshold": "masks come as they are, in black and white",
    "overlap_mask_area_threshold": "masks of different objects may overlap",
    "function_to_apply": "scores are calibrated probabilities",
    "max_length": "the longest caption is 'max_new_tokens'",
    **dict.fromkeys(
        (
            "early_stopping",
            "epsilon_cutoff",
            "eta_cutoff",
            "min_length",
            "min_new_tokens",
            "num_beam_groups",
            "penalty_alpha",
            "temperature",
            "top_p",
            "typical_p",
            "use_cache",
        ),
        _SEARCH,
    ),
}

GENERATION: Mapping[str, Reader] = {
    "num_beams": _as("num_beams"),
    "max_new_tokens": _as("max_words"),
    "do_sample": _sampling,
}
_FOUND: Mapping[str, Reader] = {"threshold": _as("threshold"), "top_k": _as("max_regions")}
# Query parameters whose effect the answer could not show.
_DESCRIBED = ("id", "explain", "on_region_error", "num_captions")

TASKS: Mapping[str, HubTask] = {
    task.name: task
    for task in (
        HubTask("object-detection", True, {"masks": False}, _FOUND, objects_answer),
        HubTask(
            "zero-shot-object-detection",
            True,
            {"masks": False},
            {"candidate_labels": _as("names"), **_FOUND},
            objects_answer,
            required=("candidate_labels", "names"),
        ),
        HubTask("image-segmentation", True, {"masks": True}, {**_FOUND, "subtask": _subtask}, segments_answer),
        HubTask(
            "image-to-text",
            False,
            {"task": "caption"},
            {"max_new_tokens": _as("max_words"), "generation_parameters": _generation},
            texts_answer,
            reserved=_DESCRIBED,
        ),
        HubTask(
            "image-classification",
            False,
            {"task": "categories"},
            {"top_k": _as("top_k")},
            labels_answer,
            reserved=_DESCRIBED,
        ),
        HubTask(
            "zero-shot-image-classification",
            False,
            {"task": "categories"},
            {"candidate_labels": _categories},
            labels_answer,
            required=("candidate_labels", "vocabulary"),
            reserved=_DESCRIBED,
        ),
    )
}

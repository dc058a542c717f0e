"""An answer's JSON -> the records that `DynRefer` returns. No I/O.

The records hold what the answer says: numbers as it rounds them, boxes in the frame that the request's `orientation`
asked for. What it does not say is empty: the candidates of a view plan (ask for `explain`, whose `views` have them),
`domain` without an explanation, the row of a found region among the finder's candidates. Members that are not known
here are passed over, so that a newer service can be asked.

Raises KeyError, TypeError, ValueError or AttributeError for a document that is none of this service's;
`exchanges.read` makes one error of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from dynrefer.model import (
    TASKS,
    VOCABULARY_MEMBERS,
    AbsentName,
    Corners,
    Descriptions,
    Findings,
    FoundRegion,
    ImageInfo,
    ModelCard,
    NamedVocabulary,
    RegionDescription,
    RegionMask,
    Task,
    UnknownWord,
    View,
    ViewPlan,
    ViewPolicy,
    read_vocabulary,
)
from dynrefer.service.client.errors import ProblemError
from dynrefer.service.client.explanations import explanation
from dynrefer.service.client.refusals import problem_of_region

if TYPE_CHECKING:
    from dynrefer.model import Preview, Prompt

Document = Mapping[str, Any]
NOT_SAID = -1  # of a found region's row among the finder's candidates


@dataclass(frozen=True, slots=True)
class AnswerInfo:
    """What an answer says beside its regions. ids: of the regions. image: its size, and the number of its frames.

    timings_ms: stage -> milliseconds of the whole request, "total" since its first byte.
    """

    request_id: str = ""
    model: str = ""
    image: ImageInfo = ImageInfo(0, 0)
    ids: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)


class Described(Descriptions):
    """The regions, in the order in which they were given: the list that `DynRefer.describe` returns, but for rounding
    and times. It draws itself in the same way, where its image is remembered.

    info: what the answer says besides. document: all of it, as JSON.
    """

    def __init__(
        self,
        regions: Iterable[RegionDescription] = (),
        preview: "Preview | None" = None,
        shapes: "Mapping[int, Prompt] | None" = None,
        info: AnswerInfo | None = None,
        document: Document | None = None,
    ) -> None:
        super().__init__(regions, preview, shapes)
        self.info, self.document = info or AnswerInfo(), document or {}

    def _image_size(self) -> tuple[int, int] | None:
        """In the frame of the request's `orientation`."""
        image = self.info.image
        return (image.width, image.height) if image.width else super()._image_size()


class Reported(list[RegionDescription | ProblemError]):
    """The regions, in the order in which they were given, those that could not be described as errors.

    described: the others alone, which draw themselves. info, document: as of `Described`.
    """

    def __init__(self, regions: Iterable[RegionDescription | ProblemError], described: Described) -> None:
        super().__init__(regions)
        self.described, self.info, self.document = described, described.info, described.document


@dataclass(frozen=True, slots=True)
class ServedModel(ModelCard):
    """The model that a service has loaded. limits: what a request may hold, by the name of the service's setting."""

    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """Which model serves, and what is under way.

    model: as it was asked for. name, revision, since (ISO 8601): None while it is loaded. previous: the model that
    served before, which a roll back loads. loading: what is being loaded. ending: whether requests are still being
    answered by the model before. last_failure: of the last attempt that failed; None if none did.
    """

    model: str
    name: str | None = None
    revision: str | None = None
    since: str | None = None
    previous: str | None = None
    loading: str | None = None
    ending: bool = False
    last_failure: str | None = None


@dataclass(frozen=True, slots=True)
class VocabularySummary:
    """A vocabulary that requests may name. sizes: task -> number of words."""

    name: str
    description: str
    sizes: Mapping[str, int]
    languages: tuple[str, ...] = ()
    licence: str = ""


def described(
    document: Document, preview: "Preview | None" = None, shapes: "Mapping[int, Prompt] | None" = None
) -> Described:
    """The answer of /v1/describe about regions of which none failed."""
    unknown = _unknown_words(document)
    regions = [region(each, unknown) for each in document["regions"]]
    return Described(regions, preview, shapes, _info(document), document)


def reported(
    document: Document, preview: "Preview | None" = None, shapes: "Mapping[int, Prompt] | None" = None
) -> Reported:
    """The answer of /v1/describe where regions may have failed alone."""
    unknown, regions = _unknown_words(document), list[RegionDescription | ProblemError]()
    for each in document["regions"]:
        regions.append(problem_of_region(each["error"], document["id"]) if "error" in each else region(each, unknown))
    places = [place for place, each in enumerate(regions) if isinstance(each, RegionDescription)]
    good = [each for each in regions if isinstance(each, RegionDescription)]
    moved = {places.index(place): shape for place, shape in (shapes or {}).items() if place in places}
    return Reported(regions, Described(good, preview, moved, _info(document), document))


def _info(document: Document) -> AnswerInfo:
    image = document["image"]
    return AnswerInfo(
        document["id"],
        document["model"],
        ImageInfo(image["width"], image["height"], frames=image.get("frames", 1)),
        tuple(each["id"] for each in document["regions"]),
        dict(document["timings_ms"]),
    )


def region(given: Document, unknown: tuple[UnknownWord, ...] = ()) -> RegionDescription:
    """One region's description. unknown: words of the request that are the same for all of them."""
    results: dict[str, Any] = {Task(task.name): _result(task, given[task.name]) for task in TASKS if task.name in given}
    shared = _plan(given)
    plans = {task: _plan_of_result(given[task]) if shared is None else shared for task in results}
    why = explanation(given["explanation"]) if "explanation" in given else None
    return RegionDescription(
        box=corners(given["box"]),
        clipped=given.get("clipped", False),
        plan=shared,
        plans={Task(task): plan for task, plan in plans.items() if plan is not None},
        results=results,
        timings_ms=dict(given.get("timings_ms", {})),
        domain=None if why is None or why.identity is None else why.identity.domain,
        unknown_words=unknown,
        mask=_mask(given),
        explanation=why,
    )


def found(document: Document, preview: "Preview | None" = None) -> Findings:
    """The answer of /v1/detect."""
    return Findings(
        tuple(_found_region(each) for each in document["regions"]),
        tuple(AbsentName(each["name"], each["probability"], _span(each)) for each in document["absent"]),
        _unknown_words(document),
        preview,
    )


def reload_status(document: Document) -> ReloadStatus:
    """The answer of /v1/models/reload."""
    serving, failure = document["serving"], document.get("last_failure")
    return ReloadStatus(
        model=serving["model"],
        name=serving.get("name"),
        revision=serving.get("revision"),
        since=serving.get("since"),
        previous=document.get("previous"),
        loading=document.get("loading"),
        ending=document["ending"],
        last_failure=None if failure is None else f"{failure['model']}, {failure['at']}: {failure['detail']}",
    )


def served_models(document: Document) -> tuple[ServedModel, ...]:
    """The answer of GET /v1/models."""
    return tuple(_model(each) for each in document["models"])


def vocabulary_summaries(document: Document) -> tuple[VocabularySummary, ...]:
    """The answer of GET /v1/vocabularies."""
    return tuple(
        VocabularySummary(
            each["name"], each["description"], dict(each["sizes"]), tuple(each["languages"]), each.get("licence", "")
        )
        for each in document["vocabularies"]
    )


def named_vocabulary(document: Document) -> NamedVocabulary:
    """The answer of GET /v1/vocabularies/{name}, its words as a request may bring them."""
    lists = {name: document[name] for name in VOCABULARY_MEMBERS if document.get(name)}
    return NamedVocabulary(
        document["name"], document["description"], read_vocabulary(lists), document.get("licence") or ""
    )


def corners(given: Sequence[float]) -> Corners:
    """A box of the answer."""
    x1, y1, x2, y2 = given
    return float(x1), float(y1), float(x2), float(y2)


def _plan(given: Document) -> ViewPlan | None:
    """The views that stand in a region, or in a result; None where they stand elsewhere."""
    if "views" not in given:
        return None
    views = tuple(View(each["t"], corners(each["box"])) for each in given["views"])
    return ViewPlan(views, ViewPolicy(given["view_policy"]))


def _plan_of_result(given: Any) -> ViewPlan | None:
    """Where several tasks looked at different views, each of a task's records has them. A task without a record says
    nothing of its views."""
    records = given if isinstance(given, list) else [given]
    return _plan(records[0]) if records else None


def _result(task: Any, given: Any) -> Any:
    return tuple(_record(task.record, each) for each in given) if task.many else _record(task.record, given)


def _record(kind: type, given: Document) -> Any:
    """A dataclass of what the answer gives; records inside it, of captions, are `CaptionCandidate`."""
    values = {each.name: given[each.name] for each in fields(kind) if each.name in given}
    if "candidates" in values:
        from dynrefer.model import CaptionCandidate

        values["candidates"] = tuple(_record(CaptionCandidate, each) for each in values["candidates"])
    return kind(**values)


def _mask(given: Document) -> RegionMask | None:
    if (mask := given.get("mask")) is None:
        return None
    height, width = mask["size"]
    return RegionMask((int(height), int(width)), mask["counts"])


def _span(given: Document) -> tuple[int, int] | None:
    if (span := given.get("span")) is None:
        return None
    start, end = span
    return int(start), int(end)


def _unknown_words(document: Document) -> tuple[UnknownWord, ...]:
    return tuple(UnknownWord(each["name"], tuple(each["nearest"])) for each in document.get("unknown_words", ()))


def _found_region(given: Document) -> FoundRegion:
    described = "timings_ms" in given or any(task.name in given for task in TASKS)
    return FoundRegion(
        corners(given["box"]),
        given["label"],
        given["score"],
        given["probability"],
        NOT_SAID,
        _mask(given),
        _span(given),
        given.get("phrase"),
        given.get("category"),
        given.get("parent"),
        region({name: value for name, value in given.items() if name != "mask"}) if described else None,
    )


def _model(given: Document) -> ServedModel:
    capabilities = given["capabilities"]
    return ServedModel(
        name=given["name"],
        revision=given["revision"],
        parameters=given["parameters"],
        dtype=given["dtype"],
        device=given["device"],
        num_views=given["views"]["count"],
        view_size=given["views"]["size"],
        vocabulary={task: tuple(each["names"]) for task, each in given["vocabulary"].items()},
        task_priors={task: tuple(views) for task, views in given["task_priors"].items()},
        thresholds=dict(given["thresholds"]),
        trained_on=given["trained_on"],
        intended_use=given["intended_use"],
        batch_invariant=given["batch_invariant"],
        prompts=tuple(capabilities["prompts"]),
        detection=capabilities["detection"],
        conversation=capabilities.get("conversation", False),
        limits=dict(given["limits"]),
    )

"""The arguments of a call -> the request that a service is sent. Nothing is sent here.

Arguments are checked as `DynRefer` checks them, by the same functions and with the same sentences; whether the numbers
fit the image, and whether a name is one that the service knows, the service says.
"""

import base64
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import quote

from dynrefer.model import (
    VOCABULARY_MEMBERS,
    AlphaMask,
    AskedName,
    CaptionWriting,
    Explain,
    MaskFile,
    PointPrompt,
    Polygon,
    Prompt,
    QueryError,
    RegionMask,
    RegionQuery,
    RequestVocabulary,
    Scribble,
    Task,
    ViewPolicy,
    find_query,
    listed_boxes,
    prompts_among,
    region_queries,
    written_words,
)
from dynrefer.service.client.image_bytes import image_bytes, is_address

if TYPE_CHECKING:
    from dynrefer.model import ImageSource

GivenTask = Task | str | Iterable[Task | str] | None
GivenRegion = Sequence[float] | Prompt | Mapping[str, Any]
GivenName = AskedName | Mapping[str, Any] | str
OnRegionError = Literal["fail", "report"]

RELOAD = "/v1/models/reload"
_NOWHERE = (0.0, 0.0, 0.0, 0.0)  # in the place of a region that is given as its JSON
WHOLE_IMAGE: Mapping[str, Any] = {"box": [0, 0, 1, 1]}  # in the coordinates "unit"


class DescribeOptions(TypedDict, total=False):
    """What /v1/describe takes beside image, regions and task; what is left out is the service's own choice.

    points, highlight, controls, views, view_policy, top_k, thresholds, vocabulary, writing, explain, language: as for
    `DynRefer.describe`; a vocabulary's name is one that the service knows. controls_only, num_captions, num_beams,
    max_words: in the place of `writing`, as in a request. ids: names of the regions, one each. box_format: xyxy, xywh
    or cxcywh. coordinates: pixels, unit, percent or per_mille. normalized: as coordinates="unit". orientation: upright
    or stored, the frame of coordinates in request and answer. timeout: seconds that this call may take, all tries
    together. request_id: what the server's log calls it.
    """

    points: Iterable[Iterable[PointPrompt | Sequence[float]]]
    highlight: bool
    controls: Sequence[str]
    controls_only: bool
    num_captions: int
    num_beams: int
    max_words: int
    writing: CaptionWriting
    views: Sequence[float]
    view_policy: ViewPolicy | str
    top_k: int
    thresholds: Mapping[Task, float] | Mapping[str, float]
    vocabulary: RequestVocabulary | Mapping[str, Any] | str
    explain: Explain | bool
    language: str
    ids: Sequence[str]
    box_format: Literal["xyxy", "xywh", "cxcywh"]
    coordinates: Literal["pixels", "unit", "percent", "per_mille"]
    normalized: bool
    orientation: Literal["upright", "stored"]
    timeout: float
    request_id: str


class DetectOptions(TypedDict, total=False):
    """What /v1/detect takes beside image, names, phrase and describe.

    threshold, nms, max_regions, masks: as for `DynRefer.detect`. orientation, language, timeout, request_id: as in
    `DescribeOptions`.
    """

    threshold: float
    nms: float
    max_regions: int
    masks: bool
    orientation: Literal["upright", "stored"]
    language: str
    timeout: float
    request_id: str


# Options that are members of the request as they are given.
_AS_GIVEN = (
    *("controls_only", "num_captions", "num_beams", "max_words", "language"),
    *("box_format", "coordinates", "normalized", "orientation"),
)
_ABOUT_THE_CALL = ("timeout", "request_id")
_BOX_NOTATION = ("box_format", "coordinates", "normalized")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request, ready to be sent as often as need be. image: an image file's bytes, which travel beside the JSON in a
    multipart form; None where the JSON is all there is. document: None for a GET. timeout_s: None: the client's.
    accept: of an answer that is no JSON. shapes: what regions are pointed at with, by place, for whoever draws it.
    """

    path: str
    document: Mapping[str, Any] | None = None
    image: bytes | None = None
    timeout_s: float | None = None
    request_id: str | None = None
    shapes: Mapping[int, Prompt] = field(default_factory=dict)
    accept: str | None = None

    @property
    def method(self) -> str:
        """GET or POST."""
        return "GET" if self.document is None else "POST"

    @property
    def has_regions(self) -> bool:
        """Whether there is anything to describe; a list without a region has an empty answer, as of `DynRefer`."""
        return self.document is None or self.document.get("regions") != []

    @property
    def body(self) -> dict[str, Any]:
        """What the HTTP library takes: `files`, or `content`, with its headers. NaN is left to the service to refuse,
        which says where it stands."""
        if self.document is None:
            return {}
        text = json.dumps(self.document, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if self.image is None:
            return {"content": text, "headers": {"Content-Type": "application/json"}}
        # In this order: the service knows all fields before it has the whole image.
        image = ("image", self.image, "application/octet-stream")
        return {"files": {"request": (None, text, "application/json"), "image": image}}


def reload_request(model: str | None, previous: bool, unload_first: bool, timeout_s: float) -> Outgoing:
    """A request that lets another model serve. Raises ValueError unless one of `model` and `previous` is given."""
    if previous == (model is not None):
        raise ValueError("give either a model or previous=True.")
    named: dict[str, Any] = {"previous": True} if model is None else {"model": str(model)}
    return Outgoing(RELOAD, {**named, **({"unload_first": True} if unload_first else {})}, timeout_s=timeout_s)


def describe_request(
    image: "ImageSource",
    boxes: Iterable[GivenRegion] | None,
    task: GivenTask,
    on_region_error: OnRegionError,
    options: DescribeOptions,
) -> Outgoing:
    """A request to /v1/describe. boxes: None, without points: the whole image is the region.

    Raises `QueryError`, with the region's `index`, for arguments of a wrong type, TypeError for an unknown option,
    ValueError for an unknown task or view policy, and OSError for a file that cannot be opened.
    """
    refuse_unknown("describe", options, DescribeOptions.__annotations__)
    listed = None if boxes is None else listed_boxes(boxes)
    document = {**_members(task, options), **region_members(listed, options)}
    if on_region_error != "fail":
        document["on_region_error"] = on_region_error
    return replace(posted("/v1/describe", document, image, options), shapes=prompts_among(listed or ()))


def detect_request(
    image: "ImageSource",
    names: Iterable[GivenName] | GivenName,
    phrase: str | None,
    describe: GivenTask | Mapping[str, Any],
    options: DetectOptions,
) -> Outgoing:
    """A request to /v1/detect. Raises as `describe_request`, and ValueError as `DynRefer.detect`."""
    refuse_unknown("detect", options, DetectOptions.__annotations__)
    given: Mapping[str, Any] = options
    query = find_query(
        names,  # type: ignore[arg-type]  # one name alone is taken too
        phrase,
        given.get("threshold"),
        given.get("nms", 0.5),
        given.get("max_regions", 50),
        masks=given.get("masks", False),
    )
    document: dict[str, Any] = {name: given[name] for name in ("nms", "max_regions", "masks") if name in given}
    if query.names:
        document["names"] = [
            {"name": each.name, "synonyms": list(each.synonyms), "not": list(each.excluded)} for each in query.names
        ]
    document |= {name: value for name in ("phrase", "threshold") if (value := getattr(query, name)) is not None}
    document |= {name: given[name] for name in ("orientation", "language") if name in given}
    if isinstance(describe, Mapping):
        rest = {name: value for name, value in describe.items() if name != "task"}
        refuse_unknown("describe", rest, DescribeOptions.__annotations__)
        document["describe"] = _members(describe.get("task"), rest)
    elif describe is not None:
        document["describe"] = _members(describe, {})
    return posted("/v1/detect", document, image, options)


def vocabulary_request(name: str) -> Outgoing:
    """A request for one named vocabulary."""
    return Outgoing(f"/v1/vocabularies/{quote(name, safe='')}")


def posted(path: str, document: dict[str, Any], image: Any, options: Mapping[str, Any]) -> Outgoing:
    """A request about an image."""
    timeout_s, request_id = options.get("timeout"), options.get("request_id")
    if is_address(image):
        return Outgoing(path, {"image": {"url": image}, **document}, None, timeout_s, request_id)
    return Outgoing(path, document, image_bytes(image), timeout_s, request_id)


def refuse_unknown(method: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises TypeError for a keyword argument that the method does not have."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise TypeError(f"{method}() got an unexpected keyword argument '{name}'.{hint}")


def _members(task: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of every region. Members that are not given are left out: the service knows their defaults."""
    query = _query(task, options)
    found: dict[str, Any] = {} if query.tasks is None else {"task": [each.value for each in query.tasks]}
    if "vocabulary" in options:
        found["vocabulary"] = _vocabulary(options["vocabulary"])
    if query.controls:
        found["controls"] = list(query.controls)
    if query.views is not None:
        found["views"] = list(query.views)
    if query.view_policy is not None:
        found["view_policy"] = query.view_policy.value
    if "top_k" in options:
        found["top_k"] = query.top_k
    if query.thresholds:
        found["thresholds"] = {each.value: least for each, least in query.thresholds.items()}
    if query.explain is not None:
        found["explain"] = query.explain.to_dict()
    if "writing" in options:
        default = CaptionWriting().to_dict()
        found |= {name: value for name, value in query.writing.to_dict().items() if value != default[name]}
    return {**found, **{name: options[name] for name in _AS_GIVEN if name in options}}


def _query(task: Any, options: Mapping[str, Any]) -> RegionQuery:
    """The options as `DynRefer` reads them. Vocabularies are read by the service, which may have other names."""
    (query,) = region_queries(
        [_NOWHERE],
        task,
        options.get("controls", ()),
        options.get("views"),
        options.get("top_k", 10),
        options.get("thresholds"),
        None,
        options.get("writing"),
        (),
        options.get("view_policy"),
        options.get("explain", False),
    )
    return query


def _vocabulary(given: Any) -> Any:
    if not isinstance(given, RequestVocabulary):
        if isinstance(given, str | Mapping):
            return given if isinstance(given, str) else dict(given)
        error = QueryError(f"vocabulary must be a name, a mapping or a RequestVocabulary, not {type(given).__name__}.")
        error.field = "vocabulary"
        raise error
    if given.calibration:
        error = QueryError(
            "A vocabulary's calibration cannot be sent; start the service with its file, --vocabularies."
        )
        error.field = "vocabulary"
        raise error
    lists = {name: given.words(name) for name in VOCABULARY_MEMBERS}
    return {name: written_words(words) for name, words in lists.items() if words is not None}


def region_members(boxes: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The request's `regions`. boxes: as a list, where they can be listed; None where none were given."""
    points = options.get("points", ())
    listed: Any = [] if boxes is None else boxes
    written = {place: each for place, each in enumerate(listed or ()) if isinstance(each, Mapping)}
    plain = [_NOWHERE if place in written else each for place, each in enumerate(listed)] if written else listed
    queries = region_queries(plain, None, (), None, 10, None, points=points)
    if boxes is None and not queries:
        return _whole_image(options)
    prompts = prompts_among(plain)
    found = [
        dict(written[place]) if place in written else _region(query, prompts.get(place))
        for place, query in enumerate(queries)
    ]
    if options.get("highlight"):
        found = [{**region, "highlight": True} for region in found]
    return {"regions": _named(found, options)}


def _whole_image(options: Mapping[str, Any]) -> dict[str, Any]:
    for name in (*_BOX_NOTATION, "highlight"):
        if name in options:
            error = QueryError(f"{name} needs a region; without one the region is the whole image.")
            error.field = name
            raise error
    return {"regions": _named([dict(WHOLE_IMAGE)], options), "coordinates": "unit"}


def _named(regions: list[dict[str, Any]], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "ids" not in options:
        return regions
    ids = options["ids"]
    if isinstance(ids, str) or len(ids) != len(regions):
        error = QueryError(f"ids must be a list with one text for each of the {len(regions)} regions.")
        error.field = "ids"
        raise error
    return [{**region, "id": name} for region, name in zip(regions, ids, strict=True)]


def _region(query: RegionQuery, prompt: Prompt | None) -> dict[str, Any]:
    if query.points:
        return {"points": [each.to_dict() for each in query.points]}
    match prompt:
        case None:
            return {"box": list(query.box)}
        case Polygon(rings):
            return {"polygon": [list(ring) for ring in rings]}
        case Scribble(lines):
            return {"scribble": [list(line) for line in lines]}
        case RegionMask(size, counts):
            return {"mask": {"size": list(size), "counts": counts}}
        case MaskFile(png):
            return {"mask": {"png": base64.b64encode(png).decode("ascii")}}
        case AlphaMask():
            return {"mask": "alpha"}

"""The public contract of /v1/detect: the schemas of its requests and answers."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, create_model

from dynrefer.service.api.schemas import (
    Contract,
    DescribeFields,
    ImageIn,
    ImageOut,
    MaskOut,
    Orientation,
    RegionOut,
    language_tag,
    refusal,
)
from dynrefer.service.api.vocabulary_schemas import UnknownWordOut
from dynrefer.service.observability.metrics import STAGES

# What /v1/describe is asked of regions, and can be asked of those that are found.
DESCRIBE_MEMBERS = (
    "task",
    "vocabulary",
    "controls",
    "controls_only",
    "num_captions",
    "num_beams",
    "max_words",
    "views",
    "view_policy",
    "top_k",
    "thresholds",
    "explain",
)
Word = Annotated[str, Field(min_length=1)]
Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class NameIn(Contract):
    """A name with other words for it."""

    name: Word = Field(description="as the answer says it")
    synonyms: list[Word] = Field([], description="other words for it; answers never say them")
    not_: list[Word] = Field(
        [], alias="not", description="words for things that look alike and are not meant: where one fits better, no box"
    )


def _name(value: object) -> object:
    """A text is a name without synonyms."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise refusal("A name is a text, or an object with 'name' and if need be 'synonyms' and 'not'.")
    return value


Name = Annotated[NameIn, BeforeValidator(_name, json_schema_input_type=str | NameIn)]

_members: dict[str, Any] = {
    name: (field.annotation, field) for name, field in DescribeFields.model_fields.items() if name in DESCRIBE_MEMBERS
}
_DescribeMembers: Any = create_model("_DescribeMembers", __base__=Contract, **_members)


class DescribeFound(_DescribeMembers):  # type: ignore[misc]  # its fields are made at run time
    """How each region that is found is described: fields of /v1/describe."""


class DetectFields(Contract):
    """A request without its image: the `request` part of the multipart form."""

    names: list[Name] | None = Field(
        None, description="what to find, in any words; with neither `names` nor `phrase` every object is found"
    )
    phrase: str | None = Field(None, description="a sentence, each of whose noun phrases is found")
    threshold: Part | None = Field(None, description="least score of a region; null: the finder's own")
    nms: Part = Field(0.5, description="boxes of one name that overlap by more (intersection over union) are one")
    max_regions: int = Field(50, ge=1, description="the best so many regions are answered")
    masks: bool = Field(False, description="whether each region comes with its mask")
    describe: DescribeFound | None = Field(None, description="describes each region in the same request")
    orientation: Orientation = Field("upright", description="the frame of the answer's coordinates, as in /v1/describe")
    language: Annotated[str | None, BeforeValidator(language_tag)] = Field(
        None, description="in which language descriptions write names, as in /v1/describe"
    )


class DetectRequest(DetectFields):
    """A request as one JSON object."""

    image: ImageIn


_described: dict[str, Any] = {
    name: (None | field.annotation, None)
    for name, field in RegionOut.model_fields.items()
    if name not in ("id", "box", "clipped", "mask")
}
_DescribedMembers: Any = create_model("_DescribedMembers", __base__=BaseModel, **_described)


class FoundRegionOut(_DescribedMembers):  # type: ignore[misc]  # its fields are made at run time
    """One region found; with `describe` it has the members of a region of /v1/describe too."""

    id: str = Field(description="its place in the list")
    box: list[float] = Field(description="xyxy, pixels of the image in the request's `orientation`")
    label: str = Field(description="the name as it was asked, the noun phrase, or what the object is taken for")
    score: float = Field(description="0 to 1; `threshold` applies to it")
    probability: float = Field(description="calibrated: of the regions with .8, eight in ten are right")
    mask: MaskOut | None = Field(None, description="with `masks`")
    span: tuple[int, int] | None = Field(None, description="with `phrase`: the characters [start, end) of the label")
    phrase: str | None = Field(None, description="where nothing was asked for: the object in a few words")
    category: str | None = Field(None, description="where nothing was asked for: what it is")
    parent: str | None = Field(None, description="where nothing was asked for: a broader word")


class AbsentOut(BaseModel):
    """A name, or a noun phrase, without a box."""

    name: str
    probability: float = Field(description="that the image shows it all the same; calibrated, below .5")
    span: tuple[int, int] | None = Field(None, description="of a noun phrase, as in regions")


class DetectResponse(BaseModel):
    """The answer."""

    id: str = Field(description="the X-Request-Id")
    model: str
    image: ImageOut
    regions: list[FoundRegionOut] = Field(description="by descending score")
    absent: list[AbsentOut]
    unknown_words: list[UnknownWordOut] | None = Field(
        None, description="words of the request that the model knows nothing about; absent if none"
    )
    timings_ms: dict[str, float] = Field(description=", ".join((*STAGES, "total")))

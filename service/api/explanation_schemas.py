"""The contract of `explain`: what may be asked for, and the explanation of a region."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

# With a thumbnail of 128 x 128 for each of eleven views, some 60 KB of an answer for a region.
MOST_THUMBNAIL_REGIONS = 16

Policy = Literal["image_prior", "task_prior", "fixed"]


class ExplainIn(BaseModel):
    """What an explanation is to hold, beside the chosen views and their priors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    candidates: bool = Field(True, description="every view that the hash search compares, not the chosen ones alone")
    thumbnails: bool = Field(
        False,
        description=f"a picture of each listed view, as the network sees it; of at most {MOST_THUMBNAIL_REGIONS} "
        "regions per request",
    )
    evidence: bool = Field(True, description="labels, words, control words, and what the object was taken for")


def _explain(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        detail = "true, false or an object with candidates, thumbnails and evidence is expected."
        raise PydanticCustomError("refused", "{detail}", {"detail": detail})
    return value


_MEMBERS = {
    name: {"type": "boolean", "default": field.default, "description": field.description}
    for name, field in ExplainIn.model_fields.items()
}
_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "boolean"}, {"type": "object", "properties": _MEMBERS, "additionalProperties": False}]
}

ExplainField = Annotated[ExplainIn | None, BeforeValidator(_explain), WithJsonSchema(_SCHEMA)]


class ExplainedViewOut(BaseModel):
    """A view that was looked at, or could have been."""

    t: float = Field(description="0: the region, 1: the whole image")
    box: list[float] = Field(description="xyxy, pixels of the image in the request's `orientation`")
    hash: str = Field(description="perceptual hash of the crop, 64 bits as 16 hexadecimal digits")
    distance: int = Field(description="bits in which the hash differs from that of t = 0")
    gain: float | None = Field(None, description="distance / t, by which the image prior ranks; absent at t = 0")
    chosen: bool = Field(description="whether any task looked at it")
    tasks: list[str] | None = Field(None, description="those that looked at it; absent where none did")
    thumbnail: str | None = Field(None, description="WebP in Base64, upright")


class UsedPriorOut(BaseModel):
    """How the views of some tasks were chosen."""

    tasks: list[str]
    policy: Policy
    t: list[float] = Field(description="in the order in which the model fused the views")


class SupportOut(BaseModel):
    """The label that speaks for a word."""

    task: Literal["tags", "categories"]
    name: str
    score: float
    probability: float


class LeftOutOut(BaseModel):
    """A word's label without one view."""

    t: float = Field(description="the view, in whose place the region itself was shown")
    drop: float = Field(description="by how much that lowers the label's calibrated log odds")


class WordOut(BaseModel):
    """A word of the caption."""

    text: str
    span: tuple[int, int] = Field(description="[start, end) in characters of the caption's text")
    kind: Literal["noun", "property", "unknown"] = Field(description="unknown: a word of none of the model's lists")
    supported: bool = Field(description="whether a label that says the same is said too")
    support: SupportOut | None = None
    carried_by: Literal["view", "evidence"] | None = Field(
        None, description="evidence: the looks of tower and detector at a photograph, not a view"
    )
    view: float | None = Field(None, description="t of the view that carried it; 0: the region itself is enough")
    left_out: list[LeftOutOut] | None = None


class SenseOut(BaseModel):
    """Where a word of the request has its place among the model's nouns."""

    word: str = Field(description="the name, or a synonym")
    sense: str = Field(description="the meaning that was taken, lemma.number of WordNet 3.0's nouns")
    via: Literal["own", "synonym", "broader", "narrower", "relative"]


class ExplainedLabelOut(BaseModel):
    """A label of the answer."""

    name: str
    score: float
    probability: float
    source: Literal["network", "evidence", "placement"] = Field(
        description="who scored it: the network; tower and detector; its place among the model's nouns"
    )
    logit: float | None = Field(None, description="raw, of the network; absent from other sources")
    synonym: str | None = Field(None, description="of an attribute, the word whose prompt scored best")
    senses: list[SenseOut] | None = Field(None, description="of a word of the request that was placed")


class ControlWordOut(BaseModel):
    """A control word of the caption."""

    word: str
    source: Literal["request", "tags", "evidence"]
    given: bool = Field(description="whether the language model got it")
    taken_up: bool = Field(description="whether the caption holds it")


class NameOut(BaseModel):
    """A name and its probability."""

    name: str
    probability: float


class EvidenceOut(BaseModel):
    """What the region's object was taken for."""

    domain: Literal["drawing", "photograph"]
    photograph_probability: float = Field(description="that it is a photograph")
    name: str
    probability: float
    parent: bool = Field(description="whether the name is a broader word")
    names: list[NameOut] = Field(description="the likeliest ones, best first")
    colours: list[NameOut] | None = Field(None, description="of a photograph, likeliest first")
    colour: str | None = Field(None, description="the one that is said")


class ExplanationOut(BaseModel):
    """Why a region was described as it was."""

    views: list[ExplainedViewOut] = Field(description="by t")
    priors: list[UsedPriorOut] = Field(description="one for each group of tasks that share their views")
    words: list[WordOut] | None = Field(None, description="of the caption")
    labels: dict[str, list[ExplainedLabelOut]] | None = Field(None, description="by task, in the answer's order")
    controls: list[ControlWordOut] | None = None
    evidence: EvidenceOut | None = Field(None, description="absent for models that do not decide it before they write")

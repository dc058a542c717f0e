"""Several images in one call of /v1/describe: the schemas of the request and of the answer."""

from typing import Any

from pydantic import BaseModel, Field, create_model

from dynrefer.service.api.schemas import (
    Contract,
    DescribeFields,
    FailedRegionOut,
    FlawItem,
    ImageIn,
    ImageOut,
    RegionIn,
    RegionOut,
)
from dynrefer.service.api.vocabulary_schemas import UnknownWordOut
from dynrefer.service.observability.metrics import STAGES

_shared: dict[str, Any] = {
    name: (field.annotation, field) for name, field in DescribeFields.model_fields.items() if name != "regions"
}
_SharedFields: Any = create_model("_SharedFields", __base__=Contract, **_shared)


class ImageRegions(Contract):
    """The regions of one image, which is a part of the form."""

    regions: list[RegionIn] = Field(min_length=1, description="what to describe on this image")


class ImageWithRegions(ImageRegions):
    """One image and its regions."""

    image: ImageIn


class DescribeImagesFields(_SharedFields):  # type: ignore[misc]  # its fields are made at run time
    """A request about several images without them: the `request` part of a multipart form with as many parts `image`.

    Every other field applies to all of them.
    """

    images: list[ImageRegions] = Field(min_length=1, description="in the order of the parts `image`")


class DescribeImagesRequest(_SharedFields):  # type: ignore[misc]  # its fields are made at run time
    """A request about several images as one JSON object. Every other field applies to all of them."""

    images: list[ImageWithRegions] = Field(min_length=1, description="answered in this order; a bad one fails alone")


class ImageProblem(BaseModel):
    """Why none of an image's regions could be described: the members of a problem document (RFC 9457)."""

    type: str = Field(description="what kind of problem this is; stable, made for programs")
    title: str = Field(description="the kind in words")
    status: int = Field(description="the HTTP status that a request about this image alone would have had")
    detail: str = Field(description="one sentence about this occurrence")
    errors: list[FlawItem] = Field(description="what is at fault, by pointers into the request")


class DescribedImageOut(BaseModel):
    """One image's answer."""

    image: ImageOut
    regions: list[RegionOut | FailedRegionOut]
    unknown_words: list[UnknownWordOut] | None = Field(
        None, description="words of the request's `vocabulary` that the model knows nothing about; absent if none"
    )
    timings_ms: dict[str, float] = Field(description=", ".join(STAGES))


class FailedImageOut(BaseModel):
    """An image that could not be described."""

    error: ImageProblem


class DescribeImagesResponse(BaseModel):
    """The answer about several images."""

    id: str = Field(description="the X-Request-Id")
    model: str
    images: list[DescribedImageOut | FailedImageOut] = Field(description="in the order of the request")
    timings_ms: dict[str, float] = Field(description="total; each image has its own stages")

"""The records of annotation files: plain COCO's, and those that the official project adds; `annotations` reads them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from dynrefer.model.geometry import ImageSize
from dynrefer.workbench.data.labelled import Id


class ListedImage(BaseModel):
    """An image by the name of its file, seen from the images' folder; its size in pixels may be said."""

    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> ImageSize | None:
        """Width and height in pixels; nothing unless both are positive."""
        if self.width is None or self.height is None or min(self.width, self.height) < 1:
            return None
        return self.width, self.height


class ListedCategory(BaseModel):
    """A category by its id."""

    id: int
    name: str


class ListedAttribute(BaseModel):
    """An attribute "type:value/synonym"; its place in `att_vec` is that of its id among all ids."""

    id: int
    name: str
    freq_set: str | None = None


class RunLengths(BaseModel):
    """A COCO mask, size = height, width; compressed or not."""

    size: tuple[int, int]
    counts: str | list[int]


class _Score(BaseModel):
    score: float | None = None


class _AttributeResult(BaseModel):
    att_vec: list[int]


class _CategoryResult(BaseModel):
    category: str


class ExtraInfo(BaseModel):
    """What the official project adds to an annotation."""

    ovad_result: _AttributeResult | None = None
    coco_result: _CategoryResult | None = None
    grit_result: _Score | None = None


class Annotation(BaseModel):
    """One region; only what a benchmark needs must be there."""

    id: Id
    image_id: Id
    bbox: tuple[float, float, float, float] | None = None
    segmentation: list[list[float]] | RunLengths | None = None
    caption: str | list[str] = Field(default_factory=list)
    category_id: int | None = None
    att_vec: list[int] | None = None
    score: float | None = None
    iscrowd: bool = False
    extra_info: ExtraInfo | None = None


class _Dataset(BaseModel):
    image_root: str | None = None


class AnnotationFile(BaseModel):
    """A COCO-style file of either layout."""

    images: list[ListedImage]
    annotations: list[Annotation]
    categories: list[ListedCategory] = Field(default_factory=list)
    attrs: list[ListedAttribute] = Field(default_factory=list)
    attributes: list[ListedAttribute] = Field(default_factory=list)
    dataset: _Dataset = Field(default_factory=_Dataset)


class Proposal(BaseModel):
    """One entry of a COCO result file: bbox = x, y, width, height."""

    image_id: Id
    bbox: tuple[float, float, float, float]
    score: float


class CaptionLine(BaseModel):
    """One line of the captions that stand beside plain COCO instances."""

    annotation_id: Id
    caption: str

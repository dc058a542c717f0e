"""What `describe` returns: a list of descriptions that can draw itself, and shows itself in a notebook. No torch."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from dynrefer.model.errors import ImageError
from dynrefer.model.types import RegionDescription

if TYPE_CHECKING:
    import fiftyone as fo
    import supervision as sv
    from PIL.Image import Image as PilImage

    from dynrefer.model.drawing import Annotation
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.preview import Preview
    from dynrefer.model.prompts import Prompt

NO_IMAGE = "these results do not know their image; draw them with dynrefer.model.drawing.draw_regions(image, ...)."


class Descriptions(list[RegionDescription]):
    """Descriptions of an image's regions, in the order in which they were asked for. A list in every other respect.

    preview: what is remembered of the image; None where nothing is.
    """

    preview: "Preview | None"

    def __init__(
        self,
        regions: Iterable[RegionDescription] = (),
        preview: "Preview | None" = None,
        shapes: "Mapping[int, Prompt] | None" = None,
    ) -> None:
        """shapes: what regions were pointed at with, by their places, for drawings."""
        super().__init__(regions)
        self.preview = preview
        # With the region itself and not its place, which sorting would change.
        self._shapes = tuple((self[place], shape) for place, shape in (shapes or {}).items())

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> RegionDescription: ...
    @overload
    def __getitem__(self, place: slice, /) -> "Descriptions": ...
    def __getitem__(self, place: SupportsIndex | slice, /) -> "RegionDescription | Descriptions":
        if not isinstance(place, slice):
            return super().__getitem__(place)
        part = Descriptions(super().__getitem__(place), self.preview)
        part._shapes = self._shapes
        return part

    def to_json(self, indent: int | None = None) -> str:
        """The descriptions as a JSON array, as `RegionDescription.to_json` writes them. Raises ValueError for NaN."""
        listed = [region.to_dict() for region in self]
        return json.dumps(listed, indent=indent, ensure_ascii=False, allow_nan=False)

    def to_supervision(self, **options: Any) -> "sv.Detections":
        """As supervision's detections; options: see `detections.to_supervision`."""
        from dynrefer.model.detections import to_supervision

        return to_supervision(self, **options)

    def to_fiftyone(self, size: "ImageSize | None" = None, **options: Any) -> "fo.Detections":
        """As FiftyOne's detections. size: (width, height) of the image, where these results do not know it; options:
        see `detections.to_fiftyone`."""
        from dynrefer.model.detections import to_fiftyone

        return to_fiftyone(self, size or self._image_size(), **options)

    def _image_size(self) -> "ImageSize | None":
        """(width, height) of the image that the boxes are in pixels of, None where it is not known."""
        return None if self.preview is None else self.preview.size

    def draw(self, longest: int = 1600) -> "PilImage":
        """The image with the regions and what is said of them. longest: pixels of the drawn image's longer side.

        Raises `ImageError` where the image is not known or was changed, OSError where its file is gone.
        """
        from dynrefer.model.drawing import draw_regions

        if self.preview is None:
            raise ImageError(NO_IMAGE)
        return draw_regions(self.preview.image(), self._annotations(), size=self.preview.size, longest=longest)

    def _annotations(self) -> "list[Annotation]":
        from dynrefer.model.drawing import annotation_of

        shapes = {id(region): shape for region, shape in self._shapes}
        return [annotation_of(region, shapes.get(id(region))) for region in self]

    def _repr_html_(self) -> str:
        """For notebooks."""
        from dynrefer.model.drawing.html import regions_html

        return regions_html(self._annotations(), self, self.preview)

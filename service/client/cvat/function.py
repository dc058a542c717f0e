"""CVAT's detection function: an image -> shapes of the task's labels, with their text attributes."""

from collections.abc import Iterator, Sequence
from typing import Any

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk import models
from cvat_sdk.attributes import attribute_vals_from_dict
from cvat_sdk.masks import encode_mask
from PIL import Image

from dynrefer.model import FoundRegion, bitmap_from_mask, mask_outlines
from dynrefer.service.client.client import Client
from dynrefer.service.client.cvat.wording import Word, tasks_of, written

TOLERANCE = 1.0  # pixels by which a polygon may be off, to have points that a person can edit
SMALLEST_PART = 0.05  # of a mask's largest part; smaller ones become no polygon


class DetectionFunction:
    """Fulfils `cvat_sdk.auto_annotation.DetectionFunction`. Shapes carry the score that a threshold applies to."""

    def __init__(
        self,
        client: Client,
        names: Sequence[str],
        wording: Sequence[Word],
        label: str = "object",
        masks: bool = False,
        threshold: float | None = None,
        max_regions: int | None = None,
    ) -> None:
        """names: labels, each found by its name; none: everything is found, under the one `label`. Raises ValueError
        for a threshold outside of 0 to 1; `BadFunctionError` as the SDK does for a specification that is not valid."""
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"The threshold must lie in 0 to 1, not {threshold:g}.")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"The name '{twice}' is asked twice.")
        self._client, self._names, self._wording = client, tuple(names), tuple(wording)
        self._masks, self._threshold = masks, threshold
        self._options: dict[str, Any] = {} if max_regions is None else {"max_regions": max_regions}
        self._labels = {name: place for place, name in enumerate(self._names or (label,))}
        self._attributes = {word.name: place for place, word in enumerate(self._wording)}
        self.spec = self._spec()

    def _spec(self) -> cvataa.DetectionFunctionSpec:
        kind = "mask" if self._masks else "rectangle"
        labels = [
            cvataa.label_spec(
                name,
                place,
                type=kind,
                attributes=[cvataa.text_attribute_spec(word, number) for word, number in self._attributes.items()],
            )
            for name, place in self._labels.items()
        ]
        return cvataa.DetectionFunctionSpec(labels=labels)

    def detect(self, context: cvataa.DetectionFunctionContext, image: Image.Image) -> list[models.LabeledShapeRequest]:
        """The shapes of an image. Raises `ClientError` where the service cannot be asked or refuses."""
        threshold = self._threshold if context.conf_threshold is None else context.conf_threshold
        options = self._options if threshold is None else {**self._options, "threshold": threshold}
        # As an array: CVAT's coordinates are of these rows and columns, whatever orientation EXIF speaks of.
        pixels = np.asarray(image.convert("RGB"))
        describe = tasks_of(self._wording) or None
        found = self._client.detect(pixels, self._names, describe=describe, masks=self._masks, **options)
        return [shape for region in found.regions for shape in self._shapes(region, context.conv_mask_to_poly)]

    def _shapes(self, region: FoundRegion, polygons: bool) -> Iterator[models.LabeledShapeRequest]:
        label = self._labels[region.label] if self._names else 0
        if not self._masks:
            yield cvataa.rectangle(label, list(region.box), **self._said(region))
        elif region.mask is None:
            return
        elif not polygons:
            bitmap = bitmap_from_mask(region.mask)
            if bitmap.any():
                yield cvataa.mask(label, encode_mask(bitmap), **self._said(region))
        else:
            outlines = mask_outlines(region.mask, TOLERANCE)
            least = SMALLEST_PART * _extent(outlines[0]) if outlines else 0.0
            for outline in outlines:
                if _extent(outline) >= least:
                    yield cvataa.polygon(label, list(outline), **self._said(region))

    def _said(self, region: FoundRegion) -> dict[str, Any]:
        """What every shape of a region has besides."""
        if region.description is None:
            return {"score": region.score}
        values = written(self._wording, region.description)
        numbered = {self._attributes[name]: value for name, value in values.items()}
        return {"score": region.score, "attributes": attribute_vals_from_dict(numbered)}


def _extent(outline: Sequence[float]) -> float:
    """The area of an outline's box."""
    xs, ys = outline[0::2], outline[1::2]
    return (max(xs) - min(xs)) * (max(ys) - min(ys))

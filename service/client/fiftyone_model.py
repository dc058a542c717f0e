"""Models for FiftyOne's `apply_model`: what a service, or a `DynRefer` in this process, finds and describes.

    import fiftyone as fo
    from dynrefer import Client
    from dynrefer.service.client.fiftyone_model import DescribingModel, FindingModel

    with Client("http://127.0.0.1:8000") as client:
        dataset.apply_model(FindingModel(client, names=["dog", "leash"]), label_field="found")
        dataset.apply_model(DescribingModel(client, "ground_truth"), label_field="described")

Importing this imports FiftyOne: `pip install 'dynrefer[fiftyone]'`.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np
from numpy.typing import NDArray

from dynrefer.model import Descriptions, Findings, mask_from_bitmap

Pixels = NDArray[np.uint8]
DEFAULT_CONCURRENCY = 4


class Asked(Protocol):
    """A `Client`, or a `DynRefer`: both have these two, with the same records."""

    def detect(self, image: Any, names: Any = ..., phrase: Any = ..., **options: Any) -> Findings:
        """Find regions."""

    def describe(self, image: Any, boxes: Any = ..., task: Any = ..., **options: Any) -> Descriptions:
        """Describe regions."""


class _ImageModel(fom.Model):  # type: ignore[misc]  # FiftyOne has no types
    """What FiftyOne asks of any model of images."""

    @property
    def media_type(self) -> str:
        """Of what it takes."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """Images of a batch may have any sizes."""
        return False

    @property
    def transforms(self) -> None:
        """The service prepares images itself."""

    @property
    def preprocess(self) -> bool:
        """There is nothing to prepare."""
        return False

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        """Nothing to be set."""


class FindingModel(_ImageModel):
    """Image -> `fiftyone.Detections` of what is found in it: by names, by a sentence, or everything.

    asked: a `Client` or a `DynRefer`. describe: tasks by which what is found is described too. options: of `detect`,
    such as `threshold` and `masks`. concurrency: images of a batch that are asked about at the same time. Errors are
    those of `detect`.
    """

    def __init__(
        self,
        asked: Asked,
        names: Iterable[Any] | str = (),
        phrase: str | None = None,
        *,
        describe: Sequence[str] | str | None = "caption",
        concurrency: int = DEFAULT_CONCURRENCY,
        **options: Any,
    ) -> None:
        super().__init__()
        self._asked, self._phrase, self._concurrency = asked, phrase, concurrency
        self._names = names if isinstance(names, str) else tuple(names)
        self._options = {"describe": describe, **options}

    def predict(self, arg: Pixels) -> fo.Detections:
        """arg: (H, W, 3) uint8 RGB."""
        pixels = _colours(arg)
        found = self._asked.detect(pixels, self._names, self._phrase, **self._options)
        return found.to_fiftyone(pixels.shape[1::-1])

    def predict_all(self, args: Sequence[Pixels]) -> list[fo.Detections]:
        """One result per image."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self.predict, args))


class DescribingModel(fom.SamplesMixin, _ImageModel):  # type: ignore[misc]  # FiftyOne has no types
    """Image and the detections that its sample has -> the same detections with what is said of them.

    field: of the sample, with the `Detections`. Each keeps its label, box, mask and whatever else it has, and gets
    `caption`, `tag_names`, `attribute_names` and the model's own `category` and `category_probability`. task, options:
    of `describe`.
    """

    def __init__(
        self,
        asked: Asked,
        field: str,
        task: Sequence[str] | str | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        **options: Any,
    ) -> None:
        super().__init__()
        self._asked, self._field, self._concurrency = asked, field, concurrency
        self._task, self._options = task, options
        self.needs_fields = {"detections": field}

    def predict(self, arg: Pixels, sample: Any = None) -> fo.Detections:
        """arg: (H, W, 3) uint8 RGB. Raises ValueError without a sample, or where it has no such field."""
        if sample is None or not sample.has_field(self._field):
            raise ValueError(f"The sample has no field '{self._field}' with detections to describe.")
        given = [] if sample[self._field] is None else sample[self._field].detections
        pixels = _colours(arg)
        regions = [_region(each, pixels.shape[1], pixels.shape[0]) for each in given]
        described = self._asked.describe(pixels, regions, self._task, **self._options)
        said = described.to_fiftyone(pixels.shape[1::-1]).detections
        return fo.Detections(detections=[_joined(*each) for each in zip(given, said, strict=True)])

    def predict_all(self, args: Sequence[Pixels], samples: Sequence[Any] | None = None) -> list[fo.Detections]:
        """One result per image."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self.predict, args, samples or [None] * len(args)))


def _colours(pixels: Pixels) -> Pixels:
    """RGB of whatever FiftyOne read: it gives grey images and an alpha channel as they are."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] < 3:
        return np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _region(detection: Any, width: int, height: int) -> Any:
    """A detection as a region in pixels: its mask where it has one, else its box."""
    x, y, w, h = detection.bounding_box
    left, top, right, bottom = x * width, y * height, (x + w) * width, (y + h) * height
    if detection.mask is None:
        return left, top, right, bottom
    mask = np.asarray(detection.mask).astype(bool)
    # FiftyOne stretches a mask over its box, whatever its own size.
    columns = np.arange(round(left), max(round(right), round(left) + 1))
    rows = np.arange(round(top), max(round(bottom), round(top) + 1))
    across = ((columns - round(left)) * mask.shape[1] // len(columns)).clip(0, mask.shape[1] - 1)
    down = ((rows - round(top)) * mask.shape[0] // len(rows)).clip(0, mask.shape[0] - 1)
    inside_x, inside_y = (columns >= 0) & (columns < width), (rows >= 0) & (rows < height)
    bitmap = np.zeros((height, width), dtype=bool)
    bitmap[np.ix_(rows[inside_y], columns[inside_x])] = mask[np.ix_(down[inside_y], across[inside_x])]
    return mask_from_bitmap(bitmap) if bitmap.any() else (left, top, right, bottom)


def _joined(given: Any, said: Any) -> Any:
    """A copy of a detection with what was said of it."""
    joined = given.copy()
    for name in ("caption", "tag_names", "attribute_names"):
        if said.has_field(name):
            joined[name] = said[name]
    if said.label is not None:
        joined["category"], joined["category_probability"] = said.label, said.confidence
    return joined

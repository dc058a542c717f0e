"""Regions prepared without a model, also in worker processes: it imports little."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import Corners, RegionQuery
from dynrefer.model.errors import BoxError, QueryError, ViewsError
from dynrefer.model.geometry import ImageSize, region_box
from dynrefer.model.preparation import check_found

NUM_VIEWS = 3


@dataclass(frozen=True)
class FakeRegion:
    """A prepared region. pixel: the image's colour at the box's first corner, as proof of the image."""

    query: RegionQuery
    box: Corners
    clipped: bool
    size: tuple[int, int]
    pixel: tuple[int, int, int]
    num_views: int = 3


@dataclass(frozen=True, slots=True)
class FakePreparation:
    """The fake predictor's preparation, without hooks."""

    def invalid(self, queries: Sequence[RegionQuery], size: ImageSize) -> list[QueryError]:
        """What the real one finds."""
        errors: list[QueryError] = []
        for index, query in enumerate(queries):
            try:
                _checked(query, *size)
            except QueryError as error:
                error.index = index
                errors.append(error)
        return errors

    def prepare_each(self, image: NDArray[np.uint8], queries: Sequence[RegionQuery]) -> Iterator[FakeRegion]:
        """Raises what the real one raises."""
        for query in queries:
            yield prepared(image, query)


def prepared(image: NDArray[np.uint8], query: RegionQuery) -> FakeRegion:
    height, width = image.shape[:2]
    box = _checked(query, width, height)
    red, green, blue = (int(value) for value in image[int(box[1]), int(box[0])])
    return FakeRegion(query, box, box != query.box, (width, height), (red, green, blue))


def _checked(query: RegionQuery, width: int, height: int) -> Corners:
    """The clipped box."""
    check_found(query, (width, height))
    x1, y1, x2, y2 = region_box(query.box).corners
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[2] <= box[0] or box[3] <= box[1]:
        raise BoxError("The box lies wholly outside the image.")
    if query.views is not None and (len(query.views) != NUM_VIEWS or query.views[0] != 0):
        raise ViewsError("This model takes three views, the first of them 0.")
    return box

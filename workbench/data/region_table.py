"""Regions of a whole data set in columns: millions of them fit into memory, and reading processes share them.

Letters: N samples, I pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.geometry import ImageSize
from dynrefer.model.types import Corners

MOST_SIDE = 2**31 - 1  # pixels; sizes are kept as int32


@dataclass(frozen=True)
class Region:
    """One sample. picture: path. listed_size: what the annotations say of the picture, at most
    `MOST_SIDE`, or None.

    box: xyxy pixels, not yet clipped. tags: indices into the vocabulary's tags.
    """

    name: str
    picture: str
    listed_size: ImageSize | None
    box: Corners
    caption: str
    tags: tuple[int, ...]


class Texts(Sequence[str]):
    """Many texts as one run of bytes: Python objects would be copied by every process that looks at them."""

    def __init__(self, texts: Iterable[str]) -> None:
        encoded = [text.encode() for text in texts]
        self._ends = np.cumsum([0, *map(len, encoded)])
        self._bytes = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # slices are not needed
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode()


class RegionTable(Sequence[Region]):
    """The samples of one data set, in the order of its file."""

    def __init__(self, regions: Sequence[Region]) -> None:
        pictures = list(dict.fromkeys(region.picture for region in regions))
        place = {picture: index for index, picture in enumerate(pictures)}
        sizes: dict[str, ImageSize] = {r.picture: r.listed_size for r in regions if r.listed_size is not None}
        self._pictures = Texts(pictures)
        self._sizes = np.array([sizes.get(picture, (0, 0)) for picture in pictures], dtype=np.int32).reshape(-1, 2)
        self._picture = np.array([place[region.picture] for region in regions], dtype=np.int32)
        self._boxes = np.array([region.box for region in regions], dtype=np.float64).reshape(-1, 4)
        self._names, self._captions = Texts(r.name for r in regions), Texts(r.caption for r in regions)
        self._tag_ends = np.cumsum([0, *(len(region.tags) for region in regions)])
        self._tags: NDArray[np.int32] = np.array([tag for r in regions for tag in r.tags], dtype=np.int32)

    def __len__(self) -> int:
        return len(self._picture)

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]  # slices are not needed
        picture = int(self._picture[index])
        width, height = self._sizes[picture].tolist()
        x1, y1, x2, y2 = self._boxes[index].tolist()
        return Region(
            name=self._names[index],
            picture=self._pictures[picture],
            listed_size=(width, height) if width else None,
            box=(x1, y1, x2, y2),
            caption=self._captions[index],
            tags=tuple(self._tags[self._tag_ends[index] : self._tag_ends[index + 1]].tolist()),
        )

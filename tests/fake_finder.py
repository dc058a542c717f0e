"""A finder without weights: what it finds follows from the names, for tests of the service."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynrefer.model import Candidates, FinderInput, FindQuery, UnknownWord
from dynrefer.model.errors import QueryError
from dynrefer.model.find_names import texts_of
from dynrefer.model.geometry import ImageSize

UNKNOWN, LOOKED, MISSING = "quux", "typewriter", "fox"  # a word that nobody knows, one for the describer, one not there
BOXES = ((0.0, 0.0, 16.0, 16.0), (20.0, 10.0, 44.0, 40.0), (21.0, 11.0, 45.0, 41.0))  # the last two are one object


@dataclass(frozen=True, slots=True)
class FakeFinderSpec:
    """Images as they are."""

    def invalid(self, queries: Sequence[FindQuery], size: ImageSize) -> list[QueryError]:
        """Nothing is."""
        return []

    def prepare_each(self, image: NDArray[np.uint8], queries: Sequence[FindQuery]) -> Iterator[FinderInput]:
        """One input per query."""
        for query in queries:
            yield FinderInput(image, (image.shape[1], image.shape[0]), query)


def candidates(image: FinderInput) -> Candidates:
    """Three boxes, two of which are one object; every name but `MISSING` has them, with scores that fall by 0.1."""
    texts = texts_of(image.query)
    scores = np.tile(np.array([[0.9], [0.8], [0.7]], np.float32), (1, len(texts)))
    scores[:, [text == MISSING for text in texts]] = 0.05
    scores[:, [text in (UNKNOWN, LOOKED) for text in texts]] = np.nan
    masks = None
    if image.query.masks:
        masks = np.full((3, 12, 16), -4.0, np.float16)
        masks[:, 2:8, 2:10] = 4.0
    return Candidates(
        boxes=np.array(BOXES, np.float32),
        objectness=np.array([0.9, 0.8, 0.7], np.float32),
        texts=texts,
        scores=scores,
        presence=np.nan_to_num(scores.max(axis=0), nan=0.0),
        mask_logits=masks,
        unknown=tuple(UnknownWord(text, ("dog",)) for text in texts if text == UNKNOWN),
    )

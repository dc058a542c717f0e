"""A highlighted region is described as if nothing else were in the image."""

from dataclasses import replace

import numpy as np
import pytest

from dynrefer.model.crops import BLANK, highlighted
from dynrefer.model.errors import PromptError
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.preparation import PreparationSpec, prepare
from dynrefer.model.types import RegionQuery

SPEC = PreparationSpec(3, 32, {}, evidence=True)
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
BITMAP = np.zeros((60, 80), dtype=bool)
BITMAP[10:40, 20:50] = np.random.default_rng(1).random((30, 30)) < 0.5
QUERY = RegionQuery((20, 10, 49, 39), views=(0.0, 0.3, 1.0), mask=mask_from_bitmap(BITMAP))


def test_views_and_evidence_are_those_of_the_blanked_image() -> None:
    blanked = highlighted(IMAGE, BITMAP)
    assert np.array_equal(blanked[BITMAP], IMAGE[BITMAP]) and (blanked[~BITMAP] == BLANK).all()
    plain, shown = prepare(IMAGE, [QUERY, replace(QUERY, highlight=True)], SPEC)
    (expected,) = prepare(blanked, [QUERY], SPEC)
    for one, other, same in ((shown, expected, True), (shown, plain, False)):
        assert np.array_equal(one.inputs[0].views.images, other.inputs[0].views.images) is same
        assert one.inputs[0].evidence is not None and other.inputs[0].evidence is not None
        assert np.array_equal(one.inputs[0].evidence.crop, other.inputs[0].evidence.crop) is same
    # Whether the image is a drawing or a photograph is told from all of it.
    wholes = [each.inputs[0].evidence.image for each in (plain, shown) if each.inputs[0].evidence is not None]
    assert np.array_equal(*wholes)
    assert shown.box == plain.box
    assert (shown.inputs[0].views.digests == plain.inputs[0].views.digests) is False


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (replace(QUERY, mask=None, highlight=True), "highlight"),
        (replace(QUERY, mask=mask_from_bitmap(BITMAP[:50])), "mask"),
    ],
)
def test_a_mask_is_needed_and_as_large_as_the_image(query: RegionQuery, field: str) -> None:
    with pytest.raises(PromptError) as caught:
        prepare(IMAGE, [QUERY, query], SPEC)
    assert (caught.value.field, caught.value.index) == (field, 1)

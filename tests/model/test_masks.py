"""Masks as run lengths: what is written is what pycocotools writes."""

import numpy as np
import pytest

from dynrefer.model.masks import mask_from_bitmap

mask_tools = pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(1, 90, 2))
    smooth = rng.random(shape).cumsum(axis=seed % 2) % rng.integers(1, 9) < 0.7
    expected = mask_tools.encode(np.asfortranarray(smooth.astype(np.uint8)))
    mask = mask_from_bitmap(smooth)
    assert mask.counts == expected["counts"].decode() and list(mask.size) == expected["size"]


@pytest.mark.parametrize("value", [False, True])
def test_a_mask_of_one_value(value: bool) -> None:
    expected = mask_tools.encode(np.full((300, 400), value, dtype=np.uint8, order="F"))
    assert mask_from_bitmap(np.full((300, 400), value)).counts == expected["counts"].decode()

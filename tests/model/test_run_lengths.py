"""Run lengths: text, runs, pixels and boxes, against a plain scan and against COCO's own code."""

import numpy as np
import pytest

from dynrefer.model.errors import BoxError
from dynrefer.model.geometry import Box
from dynrefer.model.masks import RegionMask, bitmap_from_mask, box_from_mask, mask_from_bitmap
from dynrefer.model.run_lengths import bitmap_of_runs, box_from_rle, compressed_runs, rle_runs, runs_of_bitmap
from dynrefer.model.types import Corners


def runs_of(mask: np.ndarray) -> list[int]:
    """Plain run-length encoding down the columns, beginning with background."""
    runs, current = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != current:
            runs.append(0)
            current = not current
        runs[-1] += 1
    return runs


def compressed(runs: list[int]) -> str:
    """COCO's string of run lengths, written out plainly."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr((digit | 32 if more else digit) + 48)
            if not more:
                break
    return text


def test_masks_agree_with_a_plain_scan() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 12, 2)
        mask = rng.random((height, width)) < rng.choice([0.05, 0.3, 0.9])
        if not mask.any():
            continue
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        x1, y1 = columns[0], rows[0]
        expected = (x1, y1, max(columns[-1], x1 + 1), max(rows[-1], y1 + 1))
        runs = runs_of(mask)
        assert rle_runs(compressed(runs)).tolist() == runs
        for counts in (runs, compressed(runs), compressed(runs).encode()):
            assert box_from_rle({"size": [height, width], "counts": counts}) == expected


def test_long_runs_survive_compression() -> None:
    runs = [10_000_000, 1, 3, 1_000_000, 2, 5]
    assert rle_runs(compressed(runs)).tolist() == runs


@pytest.mark.parametrize("counts", [[20], [3, 4], [5, -2, 17], [], "P", "0\x7f", "o" * 40, "\u20ac", compressed([20])])
def test_a_malformed_or_empty_mask_is_refused(counts: str | list[int]) -> None:
    with pytest.raises(BoxError):
        box_from_rle({"size": [4, 5], "counts": counts})


@pytest.mark.parametrize(
    ("counts", "box"), [([6, 1, 13], (1, 2, 2, 3)), ([5, 2, 13], (1, 1, 2, 2)), ([6, 1, 3, 1, 9], (1, 2, 2, 3))]
)
def test_a_mask_of_one_column_or_row_gets_the_pixel_that_it_covers(counts: list[int], box: Corners) -> None:
    assert Box(*box_from_rle({"size": [4, 5], "counts": counts})).corners == box


def test_masks_are_those_of_coco() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for share in (0.0, 0.003, 0.5, 0.997, 1.0):
        for _ in range(20):
            bitmap = np.asfortranarray(rng.random(rng.integers(1, 70, 2)) < share)
            theirs = coco.encode(bitmap.astype(np.uint8, order="F"))
            ours = mask_from_bitmap(bitmap)
            assert (list(ours.size), ours.counts.encode()) == (theirs["size"], theirs["counts"])
            assert np.array_equal(bitmap_from_mask(ours), bitmap)
            runs = runs_of_bitmap(bitmap)
            assert np.array_equal(rle_runs(compressed_runs(runs)), runs) and runs.sum() == bitmap.size
            assert np.array_equal(bitmap_of_runs(runs, *bitmap.shape), bitmap)


def test_a_mask_has_the_box_of_its_pixels() -> None:
    bitmap = np.zeros((50, 70), dtype=bool)
    bitmap[10:31, 5:9] = True
    assert box_from_mask(mask_from_bitmap(bitmap)) == (5, 10, 8, 30)
    with pytest.raises(BoxError, match="empty"):
        box_from_mask(mask_from_bitmap(np.zeros((3, 4), dtype=bool)))
    with pytest.raises(BoxError, match="fill"):
        bitmap_from_mask(RegionMask((3, 4), "0"))

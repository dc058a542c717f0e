"""Which points of a region are looked at: for regions of every size, and against the formulas written out."""

import numpy as np
import pytest

from dynrefer.model.errors import BoxError
from dynrefer.model.masks import RegionMask, mask_from_bitmap
from dynrefer.model.networks.converse.ferret.region_points import (
    chosen_points,
    farthest_points,
    nearest_points,
    region_points,
)
from dynrefer.model.types import RegionQuery

SIZE = (90, 60)


def masked(bitmap: np.ndarray) -> RegionQuery:
    """The box is not looked at where there is a mask."""
    return RegionQuery(box=(0, 0, 1, 1), mask=mask_from_bitmap(bitmap))


def disc(pixels: int) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    order = np.argsort((rows - 30) ** 2 + (columns - 50) ** 2, axis=None, kind="stable")
    bitmap = np.zeros(SIZE[1] * SIZE[0], bool)
    bitmap[order[:pixels]] = True
    return bitmap.reshape(SIZE[1], SIZE[0])


@pytest.mark.parametrize("pixels", [1, 2, 100, 512, 2000, SIZE[0] * SIZE[1]])
def test_points_are_pixels_of_the_mask_each_once_where_there_are_enough(pixels: int) -> None:
    bitmap = disc(pixels)
    points = chosen_points(masked(bitmap), SIZE, 512) * SIZE - 0.5
    columns, rows = np.rint(points).astype(int).T
    np.testing.assert_allclose(points, np.stack([columns, rows], axis=1), atol=1e-9)
    assert bitmap[rows, columns].all()
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == min(pixels, 512)


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ((10.2, 5.0, 11.7, 9.5), (10, 11), (5, 9)),
        ((89.2, 59.9, 89.4, 60.0), (89, 89), (59, 59)),
        ((90.0, 60.0, 90.0, 60.0), (89, 89), (59, 59)),
        ((0.0, 0.0, 90.0, 60.0), (0, 89), (0, 59)),
    ],
)
def test_points_of_a_box_are_the_pixels_that_it_touches(
    box: tuple[float, float, float, float], columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    pixels = np.rint(chosen_points(RegionQuery(box=box), SIZE, 512) * SIZE - 0.5)
    for found, (low, high) in zip(pixels.T, (columns, rows), strict=True):
        assert low <= found.min() and found.max() <= high
        if high - low < 10:
            assert {*found} == {*range(low, high + 1)}


def test_a_region_has_the_same_points_each_time_and_another_region_others() -> None:
    first, second = (chosen_points(masked(disc(pixels)), SIZE, 512) for pixels in (2000, 2001))
    assert np.array_equal(first, chosen_points(masked(disc(2000)), SIZE, 512))
    assert not np.array_equal(first, second)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(BoxError, match="at least one pixel"):
        region_points(masked(disc(0)), SIZE, 512, (128,), (24,))


def test_a_huge_mask_costs_what_its_runs_do() -> None:
    side = 1 << 20  # a bitmap of it would have a terabyte
    query = RegionQuery(box=(0, 0, 1, 1), mask=RegionMask((side, side), _runs(side)))
    points = chosen_points(query, (side, side), 512)
    assert len(np.unique(points, axis=0)) == 512
    assert points[:, 0].min() > 0.25 and points[:, 0].max() < 0.75


def _runs(side: int) -> str:
    """A quarter of background, half of region."""
    from dynrefer.model.run_lengths import compressed_runs

    quarter = side * side // 4
    return compressed_runs(np.array([quarter, 2 * quarter, quarter]))


def test_farthest_points_are_each_the_farthest_from_all_before() -> None:
    points = np.random.default_rng(0).random((60, 2))
    places = farthest_points(points, 12).tolist()
    assert places[0] == 0
    for step in range(1, 12):
        nearest = [min(np.linalg.norm(point - points[place]) for place in places[:step]) for point in points]
        assert nearest[places[step]] == pytest.approx(max(nearest))


def test_neighbours_are_the_nearest_with_the_point_itself_first() -> None:
    points = np.random.default_rng(1).random((40, 2))
    for centre, found in zip(points[:5], nearest_points(points[:5], points, 7), strict=True):
        distances = [float(np.linalg.norm(point - centre)) for point in points]
        assert found.tolist() == sorted(range(40), key=distances.__getitem__)[:7]
        assert distances[found[0]] == 0


def test_of_equal_distances_the_earliest_counts() -> None:
    points = np.zeros((30, 2))
    assert farthest_points(points, 3).tolist() == [0, 0, 0]
    assert nearest_points(points[:1], points, 4).tolist() == [[0, 1, 2, 3]]

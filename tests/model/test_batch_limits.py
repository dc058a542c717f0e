"""Batch limits from what a batch takes of a device's memory; the memory is a fake."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dynrefer.model.batch_limits import MOST_REGIONS, measured_limits
from dynrefer.model.protocol import BatchLimits


@dataclass
class Memory:
    left: int
    each: int

    def free(self) -> int:
        return self.left

    def taken_by(self, work: Callable[[], object]) -> int:
        regions = work()
        assert isinstance(regions, int)
        return regions * self.each


@pytest.mark.parametrize(
    ("left", "each", "regions"),
    [
        (10_000_000, 1_000, MOST_REGIONS),  # plenty
        (100_000, 1_000, 32),  # 60 regions would fit
        (1_000, 1_000, 1),  # not even one: it is tried, and fails alone
        (1_000_000, 0, MOST_REGIONS),  # what a batch takes was not seen
    ],
)
def test_limits_are_what_fits(left: int, each: int, regions: int) -> None:
    found = measured_limits(Memory(left, each), lambda: 8, 8, num_views=3)
    assert found == BatchLimits(regions, 3 * regions)

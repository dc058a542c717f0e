"""Halving a batch that fails, without threads."""

from collections.abc import Sequence

import pytest

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, StoppedError
from dynrefer.service.engine.failure_isolation import run_isolated


class Record:
    """Runs lists of integers. failing: the error of every run that holds the item."""

    def __init__(self, failing: dict[int, Exception] | None = None, most: int = 100) -> None:
        self.failing = failing or {}
        self.most = most
        self.runs: list[list[int]] = []
        self.settled: dict[int, object] = {}
        self.caps: list[int] = []

    def run(self, items: Sequence[int]) -> Sequence[int]:
        self.runs.append(list(items))
        for item in items:
            if item in self.failing:
                raise self.failing[item]
        if len(items) > self.most:
            raise DeviceMemoryError
        return [item * 2 for item in items]

    def settle(self, items: Sequence[int], outputs: Sequence[int] | Exception, began: float) -> None:
        for place, item in enumerate(items):
            assert item not in self.settled
            self.settled[item] = outputs if isinstance(outputs, Exception) else outputs[place]

    def isolate(self, *items: int) -> bool:
        return run_isolated(self.run, items, self.settle, self.caps.append)


def test_a_batch_that_succeeds_is_run_once() -> None:
    record = Record()
    assert record.isolate(1, 2, 3)
    assert record.runs == [[1, 2, 3]] and record.settled == {1: 2, 2: 4, 3: 6}


def test_the_failing_item_alone_fails() -> None:
    error = ValueError()
    record = Record({3: error})
    assert not record.isolate(1, 2, 3, 4)
    assert record.settled == {1: 2, 2: 4, 3: error, 4: 8}
    assert record.runs == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]


def test_want_of_memory_lowers_the_cap_only_where_everything_fits_in_the_end() -> None:
    record = Record(most=2)
    assert record.isolate(1, 2, 3, 4, 5, 6, 7, 8)
    assert record.caps == [2, 2, 4]
    record = Record({4: DeviceMemoryError()})
    assert not record.isolate(1, 2, 3, 4)
    assert record.caps == []


def test_a_batch_that_no_client_waits_for_is_not_run_again() -> None:
    stopped = StoppedError()
    record = Record({2: stopped})
    assert not record.isolate(1, 2, 3)
    assert record.runs == [[1, 2, 3]] and record.settled == {1: stopped, 2: stopped, 3: stopped}


def test_the_loss_of_the_device_ends_it() -> None:
    record = Record({2: DeviceLostError()})
    with pytest.raises(DeviceLostError):
        record.isolate(1, 2, 3)
    assert record.runs == [[1, 2, 3]] and not record.settled

"""Rows through recorded work: padded to a bucket, given back without it, and unrecorded where none fits."""

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.kernels.bucketed_graph import BucketedGraph, StreamOrder
from dynrefer.model.networks.kernels.cuda_graphs import CudaGraphs
from dynrefer.model.networks.kernels.graphs import NoGraphs, Work
from tests.model.networks.generation.recorded_graph import RecordedGraphs
from tests.model.networks.kernels.test_cuda_graphs import FakeRecorder

CPU = torch.device("cpu")


class Rows:
    """A function of rows that remembers how many it was given."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def __call__(self, numbers: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        self.given.append(len(numbers))
        return (numbers.float().mul(2.0) + shifts[:, None]).transpose(1, 2), shifts * shifts


def some(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(0, 256, (rows, 3, 4), dtype=torch.uint8, generator=generator), torch.rand(
        rows, 4, generator=generator
    )


@pytest.fixture
def graphs() -> RecordedGraphs:
    return RecordedGraphs()


def recorded(function: Rows, graphs: RecordedGraphs) -> BucketedGraph:
    found = BucketedGraph("rows", function, StreamOrder(CPU))
    found.capture(graphs, some(3), (1, 2, 4))
    function.given.clear()
    return found


@pytest.mark.parametrize("rows, bucket", [(1, 1), (2, 2), (3, 4), (4, 4), (5, None), (0, None)])
def test_rows_are_those_of_the_function(rows: int, bucket: int | None, graphs: RecordedGraphs) -> None:
    function = Rows()
    replayed = recorded(function, graphs)
    for found, expected in zip(replayed(*some(rows)), Rows()(*some(rows)), strict=True):
        assert torch.equal(found, expected) and found.shape == expected.shape
    assert graphs.replays == ([] if bucket is None else [f"rows of {bucket} rows"])
    assert function.given == ([rows] if bucket is None else [])


def test_what_was_returned_is_not_written_again(graphs: RecordedGraphs) -> None:
    replayed = recorded(Rows(), graphs)
    first = replayed(*some(2))
    before = [each.clone() for each in first]
    replayed(*some(4))
    replayed(some(2)[0] + 1, some(2)[1])
    assert all(torch.equal(now, then) for now, then in zip(first, before, strict=True))


@pytest.mark.parametrize("other", ["shape", "dtype"])
def test_rows_of_another_kind_are_computed_unrecorded(other: str, graphs: RecordedGraphs) -> None:
    replayed, (numbers, shifts) = recorded(Rows(), graphs), some(2)
    numbers = numbers.repeat(1, 2, 1) if other == "shape" else numbers.int()
    found = replayed(numbers, shifts)
    assert torch.equal(found[0], Rows()(numbers, shifts)[0]) and not graphs.replays


def test_nothing_is_recorded_where_there_are_no_graphs() -> None:
    function = Rows()
    plain = BucketedGraph("rows", function, StreamOrder(CPU))
    assert not plain.recorded
    plain.capture(NoGraphs(), some(1), (1, 2))
    function.given.clear()
    plain(*some(2))
    assert function.given == [2] and not plain.recorded


def test_a_bucket_that_falls_back_leaves_its_rows_to_the_next() -> None:
    """One recording of three fails: its rows are padded to the next larger bucket."""
    failing = iter([False, True, False])

    class Recorder(FakeRecorder):
        def record(self, work: Work) -> Work:
            if next(failing):
                raise RuntimeError("capture failed")
            return super().record(work)

    function = Rows()
    found = BucketedGraph("rows", function, StreamOrder(CPU))
    found.capture(CudaGraphs(CPU, 100.0, 1 << 20, new_recorder=Recorder), some(1), (1, 2, 4))
    function.given.clear()
    expected = Rows()(*some(2))
    assert all(torch.equal(each, other) for each, other in zip(found(*some(2)), expected, strict=True))
    assert function.given == [4]

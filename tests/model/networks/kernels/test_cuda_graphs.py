"""What is decided about CUDA graphs, with a recorder of the CPU: what is compared, restored, logged and given up."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.kernels.cuda_graphs import CudaGraphs, difference_of
from dynrefer.model.networks.kernels.graphs import Work

CPU = torch.device("cpu")


class FakeRecorder:
    """Replays by calling `replayed`, which makes of the recorded work what a device would do."""

    def __init__(self, device: torch.device) -> None:
        self.replayed: Callable[[Work], Work] = lambda work: work
        self.free = 1 << 30
        self.taken = 100  # bytes per recording
        self.recorded = 0

    def run(self, work: Work) -> None:
        work()

    def record(self, work: Work) -> Work:
        self.recorded += 1
        self.free -= self.taken
        replay = self.replayed(work)
        return lambda: replay()

    def free_bytes(self) -> int:
        return self.free


class Clock:
    """One second more at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def graphs_of(
    replayed: Callable[[Work], Work] = lambda work: work, budget_s: float = 100.0, budget_bytes: int = 1 << 20
) -> CudaGraphs:
    def new(device: torch.device) -> FakeRecorder:
        recorder = FakeRecorder(device)
        recorder.replayed = replayed
        return recorder

    return CudaGraphs(CPU, budget_s, budget_bytes, new_recorder=new, clock=Clock())


class Counter:
    """Work that changes an integer and floats, and would fail if it ever went on from where it ended."""

    def __init__(self) -> None:
        self.steps = torch.zeros(2, dtype=torch.int64)
        self.values = torch.linspace(0.0, 1.0, 8)

    def __call__(self) -> None:
        assert int(self.steps.max()) == 0, "a second step where there is room for one"
        self.steps += 1
        self.values.mul_(2.0).add_(1.0)

    @property
    def state(self) -> list[Tensor]:
        return [self.steps, self.values]


def test_a_replay_is_returned_and_the_state_is_as_before() -> None:
    graphs, work = graphs_of(), Counter()
    replay = graphs.capture("work", work, work.state)
    assert int(work.steps.sum()) == 0 and torch.equal(work.values, torch.linspace(0.0, 1.0, 8))
    assert graphs.counts == {"captured": 1, "fallen_back": 0}
    replay()
    assert work.steps.tolist() == [1, 1] and torch.equal(work.values, 1 + 2 * torch.linspace(0.0, 1.0, 8))


@pytest.mark.parametrize("wrong", ["nothing", "integers", "floats", "nan"])
def test_a_replay_that_differs_is_not_used(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    work = Counter()

    def replayed(recorded: Work) -> Work:
        def replay() -> None:
            if wrong == "nothing":
                return
            recorded()
            if wrong == "integers":
                work.steps[1] += 1
            elif wrong == "floats":
                work.values[3] += 0.1
            else:
                work.values[3] = torch.nan

        return replay

    graphs = graphs_of(replayed)
    with caplog.at_level(logging.WARNING):
        assert graphs.capture("some work", work, work.state) is work
    assert graphs.counts == {"captured": 0, "fallen_back": 1}
    assert int(work.steps.sum()) == 0 and torch.equal(work.values, torch.linspace(0.0, 1.0, 8))
    assert len(caplog.records) == 1 and "some work" in caplog.text and "differs from the work itself" in caplog.text


def test_floats_may_differ_by_roundings() -> None:
    work = Counter()

    def replayed(recorded: Work) -> Work:
        def replay() -> None:
            recorded()
            work.values[3] += 1e-3

        return replay

    graphs = graphs_of(replayed)
    assert graphs.capture("work", work, work.state) is not work
    assert graphs.counts["captured"] == 1


@pytest.mark.parametrize("error", [RuntimeError("capture invalidated\nlong text"), torch.OutOfMemoryError("no memory")])
def test_work_that_cannot_be_recorded_stays_as_it_is(error: RuntimeError, caplog: pytest.LogCaptureFixture) -> None:
    def fail(recorded: Work) -> Work:
        raise error

    graphs, work = graphs_of(fail), Counter()
    with caplog.at_level(logging.WARNING):
        assert graphs.capture("some work", work, work.state) is work
    assert graphs.counts == {"captured": 0, "fallen_back": 1} and int(work.steps.sum()) == 0
    assert len(caplog.records) == 1 and str(error).splitlines()[0] in caplog.text and "long text" not in caplog.text


def test_a_mistake_in_the_work_is_not_hidden() -> None:
    graphs = graphs_of()

    def mistaken() -> None:
        raise TypeError("no such argument")

    with pytest.raises(TypeError):
        graphs.capture("work", mistaken, [])


@pytest.mark.parametrize("limits", [{"budget_s": 2.0}, {"budget_bytes": 150}], ids=["seconds", "bytes"])
def test_beyond_the_budget_nothing_is_recorded_and_one_line_says_so(
    limits: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    """A capture takes 1 s and 100 bytes: two of them use up either budget, also where they were for another stream."""
    graphs = graphs_of(**limits)  # type: ignore[arg-type]
    works = [Counter() for _ in range(5)]
    with caplog.at_level(logging.WARNING):
        for place, work in enumerate(works):
            on = graphs.beside() if place == 1 else graphs
            replay = on.capture(f"work {place}", work, work.state)
            assert (replay is work) == (place >= 2)
    assert graphs.counts == {"captured": 2, "fallen_back": 3}
    assert len(caplog.records) == 1 and "work 2" in caplog.text


def test_graphs_beside_have_memory_of_their_own() -> None:
    made: list[FakeRecorder] = []

    def new(device: torch.device) -> FakeRecorder:
        made.append(FakeRecorder(device))
        return made[-1]

    graphs = CudaGraphs(CPU, 10.0, 1000, new_recorder=new, clock=Clock())
    beside = graphs.beside()
    for on, times in ((graphs, 1), (beside, 2)):
        for _ in range(times):
            work = Counter()
            on.capture("work", work, work.state)
    assert [each.recorded for each in made] == [1, 2]
    assert graphs.counts == beside.counts == {"captured": 3, "fallen_back": 0}


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "found, expected, same",
    [
        ([1.0, -INF, NAN], [1.0, -INF, NAN], True),
        ([1.0, INF], [1.0, -INF], False),
        ([1.0, NAN], [1.0, INF], False),
        ([1.0, 2.0], [1.0, -INF], False),
        ([100.0, 0.0], [100.0, 1.0], True),
        ([100.0, 0.0], [100.0, 2.0], False),
        ([0.0, 1e-9], [0.0, 0.0], False),
    ],
)
def test_what_is_taken_for_the_same(found: list[float], expected: list[float], same: bool) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        difference = difference_of(torch.tensor(found, dtype=dtype), torch.tensor(expected, dtype=dtype))
        assert (difference == "") is same

"""The calls of CUDA around a recording, on a fake of torch's parts for it; its context for recording is torch's own."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dynrefer.model.networks.kernels.bucketed_graph import StreamOrder
from dynrefer.model.networks.kernels.cuda_graphs import CudaGraphs, CudaRecorder

DEVICE = torch.device("cuda", 0)


class FakeStream:
    def __init__(self, cuda: "FakeCuda", name: str) -> None:
        self._cuda, self.name = cuda, name

    def wait_stream(self, other: "FakeStream") -> None:
        self._cuda.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event: "FakeEvent") -> None:
        self._cuda.log.append(f"{self.name} waits for the event of {event.of}")


class FakeEvent:
    of = ""

    def record(self, stream: FakeStream) -> None:
        self.of = stream.name


class FakeCuda:
    """Streams and graphs by name. log: what was done. broken: the end of a capture fails, as an invalid one does."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.current = FakeStream(self, "main")
        self.broken = False
        self.streams = self.graphs = 0

    def new_stream(self, device: torch.device) -> FakeStream:
        self.streams += 1
        return FakeStream(self, f"side {self.streams}")

    def new_graph(self) -> Any:
        self.graphs += 1
        name = f"graph {self.graphs}"

        def begin(pool: object, capture_error_mode: str, check_input_liveness: bool = False) -> None:
            self.log.append(f"{name} begins on {self.current.name}, {capture_error_mode}, in {pool}")

        def end() -> None:
            self.log.append(f"{name} ends")
            if self.broken:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

        def replay() -> None:
            self.log.append(f"{name} is replayed on {self.current.name}")

        return SimpleNamespace(capture_begin=begin, capture_end=end, replay=replay)


class On:
    """torch.cuda.stream."""

    def __init__(self, cuda: FakeCuda, stream: FakeStream) -> None:
        self._cuda, self._stream = cuda, stream

    def __enter__(self) -> None:
        self._before, self._cuda.current = self._cuda.current, self._stream

    def __exit__(self, *_: object) -> None:
        self._cuda.current = self._before


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    pools = iter(range(1, 9))

    def ended(device: int, pool: object) -> None:
        fake.log.append(f"allocation of {pool} ends")
        raise RuntimeError("not currently recording to mempool_id")  # as torch says where it has ended already

    parts: dict[str, Any] = {
        "Stream": fake.new_stream,
        "Event": FakeEvent,
        "CUDAGraph": fake.new_graph,
        "stream": lambda stream: On(fake, stream),
        "current_stream": lambda device=None: fake.current,
        "graph_pool_handle": lambda: f"pool {next(pools)}",
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "mem_get_info": lambda device: (1 << 30, 1 << 31),
    }
    for name, part in parts.items():
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr(torch._C, "_host_emptyCache", lambda: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    return fake


def noted(cuda: FakeCuda, what: str) -> Callable[[], None]:
    return lambda: cuda.log.append(f"{what} on {cuda.current.name}")


def test_work_is_warmed_up_where_it_is_recorded(cuda: FakeCuda) -> None:
    recorder = CudaRecorder(DEVICE)
    recorder.run(noted(cuda, "work"))
    assert cuda.log == ["side 1 waits for main", "work on side 1", "main waits for side 1"]
    cuda.log.clear()
    replay = recorder.record(noted(cuda, "work"))
    assert cuda.log == ["graph 1 begins on side 1, thread_local, in pool 1", "work on side 1", "graph 1 ends"]
    replay()
    assert cuda.log[-1] == "graph 1 is replayed on main" and cuda.current.name == "main"


def fail() -> None:
    raise RuntimeError("not permitted while a stream is captured")


@pytest.mark.parametrize("work_fails, end_fails", [(True, False), (False, True), (True, True)])
def test_a_recording_that_fails_leaves_the_stream_as_it_was(work_fails: bool, end_fails: bool, cuda: FakeCuda) -> None:
    recorder = CudaRecorder(DEVICE)
    cuda.broken = end_fails
    with pytest.raises(RuntimeError):
        recorder.record(fail if work_fails else noted(cuda, "work"))
    assert cuda.current.name == "main"
    assert cuda.log[-2:] == ["graph 1 ends", "allocation of pool 1 ends"]
    cuda.broken = False
    recorder.record(noted(cuda, "other work"))()
    assert cuda.log[-1] == "graph 2 is replayed on main"


def test_work_that_fails_while_warming_up_leaves_the_stream_as_it_was(cuda: FakeCuda) -> None:
    with pytest.raises(RuntimeError):
        CudaRecorder(DEVICE).run(fail)
    assert cuda.current.name == "main" and cuda.log[-1] == "main waits for side 1"


def test_no_graph_is_destroyed_while_others_of_its_stream_live(cuda: FakeCuda) -> None:
    recorder = CudaRecorder(DEVICE)
    cuda.broken = True
    with pytest.raises(RuntimeError):
        recorder.record(noted(cuda, "work"))
    assert len(recorder._graphs) == 1


def test_graphs_beside_are_recorded_on_another_stream_into_another_pool(cuda: FakeCuda) -> None:
    graphs = CudaGraphs(DEVICE, 1e9, 1 << 30)
    for on in (graphs, graphs.beside(), graphs):
        on.capture("work", noted(cuda, "work"), [])
    begun = [line for line in cuda.log if "begins" in line]
    assert [line.split("begins on ")[1] for line in begun] == [
        "side 1, thread_local, in pool 1",
        "side 2, thread_local, in pool 2",
        "side 1, thread_local, in pool 1",
    ]
    assert graphs.counts == {"captured": 3, "fallen_back": 0}


def test_streams_take_turns_with_what_they_share(cuda: FakeCuda) -> None:
    order, side = StreamOrder(DEVICE), cuda.new_stream(DEVICE)
    for stream in (cuda.current, cuda.current, side, cuda.current):
        with On(cuda, stream), order:
            cuda.log.append(f"work on {stream.name}")
    assert cuda.log == [
        *("work on main", "work on main"),
        *("side 1 waits for the event of main", "work on side 1"),
        *("main waits for the event of side 1", "work on main"),
    ]

"""Streams and marks: on a CPU, and the calls for a GPU on a fake of torch's events."""

from contextlib import nullcontext

import pytest
import torch

from dynrefer.model.networks.kernels import streams
from dynrefer.model.networks.kernels.streams import Marks, SideStream, current_device

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")


def test_on_a_cpu_all_is_done_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 1.5, 1.75, 3.75])
    monkeypatch.setattr(streams.time, "perf_counter", lambda: next(times))
    marks = Marks(CPU)
    for part in ("encode", "represent", "encode"):
        marks.lap(part)
    marks.wait()
    assert marks.reached and marks.parts_ms() == {"encode": 2500.0, "represent": 250.0}


def test_on_a_cpu_there_is_no_stream_beside() -> None:
    side = SideStream(CPU)
    with side.entered(), current_device(CPU):
        values = torch.ones(2)
    side.hand_over(values)
    assert values.tolist() == [1.0, 1.0]


class Event:
    """Reached once somebody waits for it; a millisecond after the one before."""

    made: list["Event"] = []

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.made.append(self)
        self.recorded = self.reached = False

    def record(self) -> None:
        self.recorded = True

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        self.reached = True

    def elapsed_time(self, end: "Event") -> float:
        return float(self.made.index(end) - self.made.index(self))


def test_on_a_gpu_the_last_mark_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    Event.made = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    marks = Marks(GPU)
    for part in ("encode", "represent", "represent"):
        marks.lap(part)
    assert all(each.recorded for each in Event.made) and len(Event.made) == 4
    Event.made[2].reached = True
    assert not marks.reached
    marks.wait()
    assert marks.reached and marks.parts_ms() == {"encode": 1.0, "represent": 2.0}


def test_a_thread_is_on_the_device_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []

    def device(which: torch.device) -> nullcontext[None]:
        asked.append(which)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "device", device)
    with current_device(CPU), current_device(GPU):
        assert asked == [GPU]

"""Work on a GPU beside other work: streams, and how far one has come. On a CPU everything is done when it is called."""

import itertools
import time
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def current_device(device: torch.device) -> AbstractContextManager[object]:
    """Inside, events and streams that name no device are of this one, also in a thread that never chose it."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class SideStream:
    """A CUDA stream beside the current one. For one thread."""

    def __init__(self, device: torch.device) -> None:
        self._main: torch.cuda.Stream | None = None
        self._side: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._main, self._side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
            self._side.wait_stream(self._main)

    def entered(self) -> AbstractContextManager[object]:
        """What is computed inside is computed on it."""
        return nullcontext() if self._side is None else torch.cuda.stream(self._side)

    def hand_over(self, values: Tensor) -> None:
        """Values that were computed on it are about to be used on the main stream: their memory is not given to others
        before that is done."""
        if self._main is not None:
            values.record_stream(self._main)


class Marks:
    """Marks in the current stream: whether it has passed them, and the time between them."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._parts: list[str] = []
        self._times: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self._set()

    def lap(self, part: str) -> None:
        """Here a part of the work ends, which began at the mark before."""
        self._parts.append(part)
        self._set()

    @property
    def reached(self) -> bool:
        """Whether the stream has passed the last mark."""
        return not self._cuda or self._events[-1].query()

    def wait(self) -> None:
        """Until it has."""
        if self._cuda:
            self._events[-1].synchronize()

    def parts_ms(self) -> dict[str, float]:
        """Milliseconds by part, once the last mark is passed."""
        if self._cuda:
            spent = [begin.elapsed_time(end) for begin, end in itertools.pairwise(self._events)]
        else:
            spent = [(end - begin) * 1e3 for begin, end in itertools.pairwise(self._times)]
        found = dict.fromkeys(self._parts, 0.0)
        for part, each in zip(self._parts, spent, strict=True):
            found[part] += each
        return found

    def _set(self) -> None:
        if not self._cuda:
            self._times.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

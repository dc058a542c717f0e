"""CUDA graphs: work is recorded once, compared with what it recorded, and replayed as a whole.

Where recording fails, differs or would exceed its budget, the work stays what it is: its kernels are launched one by
one, and one log line says why.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from dynrefer.model.networks.kernels.graphs import Work

_log = logging.getLogger(__name__)

_WARM_UPS = 2  # kernels are chosen and their workspaces allocated at the first run, now and then at the second
# Of the largest number of a tensor: two units in the last place of bfloat16. A replay launches the same kernels with
# the same arguments, so only sums in no fixed order may differ, by roundings. A replay that is wrong, because it reads
# memory that others use or a number that Python chose while recording, differs by about the numbers themselves.
_TOLERANCE = 2.0**-6
_SPECIAL = 1e8  # larger numbers are marks (a score that no sequence reaches), which no rounding changes
_PART = 1 << 24  # numbers compared at a time


class Recorder(Protocol):
    """What of CUDA is needed to record work; behind it nothing decides."""

    def run(self, work: Work) -> None:
        """Run work once where it will be recorded, and wait for it."""

    def record(self, work: Work) -> Work:
        """Record work without running it. The current stream is as before, also where this raises RuntimeError."""

    def free_bytes(self) -> int:
        """The device's free memory."""


class Budget:
    """What recording may cost, in seconds and in bytes of the device. clock: in seconds."""

    def __init__(self, seconds: float, size: int, clock: Callable[[], float]) -> None:
        self._seconds, self._bytes, self._clock = seconds, size, clock
        self._began = 0.0
        self.spent_s, self.spent_bytes = 0.0, 0
        self.reported = False

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(self, *_: object) -> None:
        self.spent_s += self._clock() - self._began

    def exceeded(self) -> str:
        """Which part is used up, for the log; empty while none is."""
        if self.spent_s >= self._seconds:
            return f"{self.spent_s:.1f} s of {self._seconds:.1f} s are spent"
        if self.spent_bytes >= self._bytes:
            return f"{self.spent_bytes >> 20} MiB of {self._bytes >> 20} MiB are taken"
        return ""


class CudaGraphs:
    """A `Graphs` on a GPU. For one thread.

    budget_s, budget_bytes: of all captures together. Once one of them is used up, what follows is not recorded, so
    capture what matters most first. What a capture takes is known only afterwards: the last one may exceed the budget.

    Graphs share the memory of their intermediate values, so none may be replayed while another is running. What is
    replayed on another stream beside them is captured by `beside`.
    """

    def __init__(
        self,
        device: torch.device,
        budget_s: float,
        budget_bytes: int,
        *,
        new_recorder: "Callable[[torch.device], Recorder] | None" = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._budget = Budget(budget_s, budget_bytes, clock)
        self._counts = {"captured": 0, "fallen_back": 0}
        self._new_recorder = partial(new_recorder or CudaRecorder, device)
        self._recorder = self._new_recorder()

    def beside(self) -> "CudaGraphs":
        """Graphs that may run beside these: memory and stream are their own; budget and counts are shared."""
        graphs = copy(self)
        graphs._recorder = self._new_recorder()
        return graphs

    @property
    def counts(self) -> Mapping[str, int]:
        """See `Graphs`: "captured" and "fallen_back"."""
        return dict(self._counts)

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        """See `Graphs`. The work runs a few times, each time from `state` as it is now."""
        if why := self._budget.exceeded():
            if not self._budget.reported:
                _log.warning("no CUDA graphs from %s on, kernels are launched one by one: %s", name, why)
            self._budget.reported = True
            self._counts["fallen_back"] += 1
            return work
        with self._budget:
            try:
                replay = self._checked(work, state)
            except (_Different, RuntimeError) as error:  # torch's errors of its device and of its memory are the latter
                _log.warning("%s is not replayed as a CUDA graph: %s", name, _first_line(error))
                self._counts["fallen_back"] += 1
                return work
        self._counts["captured"] += 1
        return replay

    def _checked(self, work: Work, state: Sequence[Tensor]) -> Work:
        """Raises `_Different`; the state is restored whatever happens."""
        before = [each.clone() for each in state]

        def restored() -> None:
            for each, old in zip(state, before, strict=True):
                each.copy_(old)

        def from_start() -> None:
            restored()
            work()

        try:
            for _ in range(_WARM_UPS):
                self._recorder.run(from_start)
            expected = [each.clone() for each in state]
            restored()
            free = self._recorder.free_bytes()
            replay = self._recorder.record(work)
            self._budget.spent_bytes += max(0, free - self._recorder.free_bytes())
            replay()
            for place, (found, wanted) in enumerate(zip(state, expected, strict=True)):
                if difference := difference_of(found, wanted):
                    raise _Different(f"tensor {place} of {len(state)} differs from the work itself: {difference}")
        finally:
            restored()
        return replay


class _Different(Exception):
    """A replay does not make what the work itself makes."""


def difference_of(found: Tensor, expected: Tensor) -> str:
    """How tensors of one shape and dtype differ; empty where they do not, up to the order of additions.

    Integers are equal; floats too, or NaN, infinities and marks such as -1e9 are at the same places, and the others
    closer to each other than `_TOLERANCE` times the largest of them.
    """
    if torch.equal(found, expected):
        return ""
    if not found.is_floating_point():
        return f"{int((found != expected).sum())} of {found.numel()} integers"
    apart = largest = 0.0
    # In parts, for in double precision caches take four times their memory.
    for ours, theirs in zip(found.flatten().split(_PART), expected.flatten().split(_PART), strict=True):
        ours, theirs = ours.double(), theirs.double()
        special, ours_too = (~(each.abs() < _SPECIAL) for each in (theirs, ours))  # NaN too
        same = torch.equal(special, ours_too)
        if not same or not torch.equal(ours[special].nan_to_num(2.0), theirs[special].nan_to_num(2.0)):
            return "NaN, infinities or scores that no sequence reaches are at other places"
        ours, theirs = ours.masked_fill(special, 0.0), theirs.masked_fill(special, 0.0)
        largest = max(largest, float(theirs.abs().max()))
        apart = max(apart, float((ours - theirs).abs().max()))
    return "" if apart <= _TOLERANCE * largest else f"by up to {apart:.3g}, where the largest number is {largest:.3g}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class CudaRecorder:
    """Records on a stream of its own into memory of its own.

    cuBLAS keeps a workspace per stream, so graphs that were recorded on one stream share it, like their memory. torch
    frees it when any graph of the stream is destroyed (pytorch/pytorch#193402), hence all graphs are kept, also those
    that failed or differed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device("cuda", torch.cuda.current_device()) if device.index is None else device
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: list[torch.cuda.CUDAGraph] = []

    def run(self, work: Work) -> None:
        """See `Recorder`."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                work()
        finally:
            current.wait_stream(self._stream)
        torch.cuda.synchronize(self._device)

    def record(self, work: Work) -> Work:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        self._graphs.append(graph)
        # Entered outside too: torch's own context does not bring back the stream where the end of a capture raises.
        with torch.cuda.stream(self._stream):
            try:
                # Other threads may pin memory meanwhile, which "global" takes for an error.
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    work()
            except BaseException:
                self._end_allocation()
                raise
        return graph.replay

    def _end_allocation(self) -> None:
        """Up to torch 2.11 and beyond, an invalid capture leaves the allocator in the belief that it goes on, and then
        memory that several streams used is never freed. Where it has ended, this is refused, or unknown."""
        with suppress(RuntimeError, AttributeError, TypeError):
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool)

    def free_bytes(self) -> int:
        """See `Recorder`. As the driver sees it, because the graphs themselves are not in torch's memory."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        free: int = torch.cuda.mem_get_info(self._device)[0]
        return free

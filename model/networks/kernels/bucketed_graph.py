"""A function of tensors with rows, recorded for a few numbers of rows.

Shapes: n = rows that are given, B = rows of a bucket, the smallest recorded number of rows >= n.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynrefer.model.networks.kernels.graphs import Graphs, Work

RowFunction = Callable[..., tuple[Tensor, ...]]  # of tensors (n, ...) -> tensors (n, ...), row by row


class StreamOrder:
    """Lets streams take turns with memory that they share, without the host waiting. On a CPU it does nothing.

    Entered, the current stream begins where the one before has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._end = torch.cuda.Event() if device.type == "cuda" else None

    def __enter__(self) -> None:
        if self._end is not None:
            current = torch.cuda.current_stream(self._device)
            if self._stream is not None and self._stream != current:
                current.wait_event(self._end)
            self._stream = current

    def __exit__(self, *_: object) -> None:
        if self._end is not None and self._stream is not None:
            self._end.record(self._stream)


class BucketedGraph:
    """The function itself until `capture`; then up to the largest bucket a replay.

    A batch is padded to its bucket by its last row, so no row may depend on another. name: for the log. order: shared
    by everything that is captured in the same `graphs`.
    """

    def __init__(self, name: str, function: RowFunction, order: StreamOrder) -> None:
        self._name, self._function, self._order = name, function, order
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: tuple[Tensor, ...] = ()
        self._replays: dict[int, Work] = {}  # by rows, the fewest first

    @property
    def recorded(self) -> bool:
        """Whether any bucket is."""
        return bool(self._replays)

    @torch.inference_mode()
    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Tensors (n, ...) -> tensors (n, ...), which are the caller's own. Never waits for the device.

        Rows of other shapes or types than those captured, and more than the largest bucket, are computed unrecorded.
        """
        rows = len(given[0])
        bucket = next((size for size in self._replays if size >= rows), 0) if rows and self._fits(given) else 0
        if not bucket:
            return self._function(*given)
        with self._order:
            for room, values in zip(self._inputs, given, strict=True):
                room[:rows].copy_(values, non_blocking=True)
                if bucket > rows:
                    room[rows:bucket].copy_(room[rows - 1 : rows].expand(bucket - rows, *room.shape[1:]))
            self._replays[bucket]()
            return tuple(room[:rows].clone() for room in self._outputs)

    @torch.inference_mode()
    def capture(self, graphs: Graphs, sample: Sequence[Tensor], buckets: Sequence[int]) -> None:
        """Record the function for these numbers of rows; what cannot be recorded stays as it is.

        sample: inputs as they will be given, of one row or more, on the device. Memory: inputs and outputs of the
        largest bucket, besides what a graph takes.
        """
        most = max(buckets)
        self._inputs = tuple(_of_rows(each, most) for each in sample)
        self._outputs = tuple(torch.empty_like(each) for each in self._function(*self._inputs))
        replays: dict[int, Work] = {}
        for rows in sorted(buckets, reverse=True):  # the largest first: the others fit the memory that it needed
            work, outputs = self._work(rows), [each[:rows] for each in self._outputs]
            for each in outputs:
                each.zero_()  # so that a replay that writes nothing is noticed
            replay = graphs.capture(f"{self._name} of {rows} rows", work, outputs)
            if replay is not work:
                replays[rows] = replay
        self._replays = dict(sorted(replays.items()))
        if not replays:
            self._inputs = self._outputs = ()

    def _work(self, rows: int) -> Work:
        inputs = [each[:rows] for each in self._inputs]
        outputs = [each[:rows] for each in self._outputs]

        def work() -> None:
            for room, found in zip(outputs, self._function(*inputs), strict=True):
                room.copy_(found)

        return work

    def _fits(self, given: Sequence[Tensor]) -> bool:
        return len(given) == len(self._inputs) and all(
            values.shape[1:] == room.shape[1:] and values.dtype == room.dtype
            for values, room in zip(given, self._inputs, strict=True)
        )


def _of_rows(sample: Tensor, rows: int) -> Tensor:
    """(rows, ...) of a sample's rows, repeated; each row lies in memory as in the sample."""
    room = torch.empty_like(sample[:1].expand(rows, *sample.shape[1:]))
    return room.copy_(sample[torch.arange(rows, device=sample.device) % len(sample)])

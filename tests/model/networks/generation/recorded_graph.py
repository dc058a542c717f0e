"""CUDA graphs on a CPU: operations are recorded with their very arguments and done again, without any Python of theirs.

As in a graph, whatever Python read from a tensor or counted while it recorded is fixed from then on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from dynrefer.model.networks.kernels.graphs import Work


class _Recorder(TorchDispatchMode):
    """Every operation of torch, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert func is not torch.ops.aten._local_scalar_dense.default, "the host waits for the device"
        self.operations.append((func, args, kwargs or {}, found))
        return found


class RecordedGraphs:
    """A `Graphs` that records every piece of work. operations: how many operations each one has."""

    def __init__(self) -> None:
        self.replays: list[str] = []
        self.operations: dict[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        return {"captured": len(self.operations), "fallen back": 0}

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        before = [each.clone() for each in state]
        recorder = _Recorder()
        with recorder:
            work()
        for each, old in zip(state, before, strict=True):
            each.copy_(old)
        self.operations[name] = len(recorder.operations)

        def replay() -> None:
            self.replays.append(name)
            _replay(recorder.operations)

        return replay


def _replay(operations: Sequence[tuple[Any, Any, Any, Any]]) -> None:
    again: dict[int, Tensor] = {}

    def known(value: Any) -> Any:
        return again.get(id(value), value) if isinstance(value, Tensor) else value

    with torch.inference_mode():
        for func, args, kwargs, found in operations:
            results = func(*tree_map(known, args), **tree_map(known, kwargs))
            old, new = tree_flatten(found)[0], tree_flatten(results)[0]
            again |= {id(was): now for was, now in zip(old, new, strict=True) if isinstance(was, Tensor)}

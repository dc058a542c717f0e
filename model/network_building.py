"""Building a network in one thread while another computes, which torch keeps apart but for its default dtype.

transformers builds a network of bfloat16 with that as torch's default, which holds for all threads: what a computation
makes of whole numbers meanwhile, such as a mean, would be rounded to eight bits. So nothing is computed while a network
of another dtype than the default is built: some seconds at most, for its weights are read afterwards.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class BuildingTurns:
    """Threads that compute, any number at a time, and threads that build, for which those wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._computing = 0
        self._building = 0  # that build, or wait for computations to end
        self._depth = threading.local()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Nothing is built inside. May be entered again inside."""
        depth: int = getattr(self._depth, "value", 0)
        if not depth:
            with self._changed:
                self._changed.wait_for(lambda: not self._building)
                self._computing += 1
        self._depth.value = depth + 1
        try:
            yield
        finally:
            self._depth.value = depth
            if not depth:
                with self._changed:
                    self._computing -= 1
                    self._changed.notify_all()

    @contextmanager
    def building(self, dtype: torch.dtype) -> Iterator[None]:
        """Nothing is computed inside, unless a network of this dtype changes nothing for other threads."""
        if dtype == torch.get_default_dtype():
            yield
            return
        with self._changed:
            self._building += 1
            self._changed.wait_for(lambda: not self._computing)
        try:
            yield
        finally:
            with self._changed:
                self._building -= 1
                self._changed.notify_all()


TURNS = BuildingTurns()  # of this process, as the default dtype is

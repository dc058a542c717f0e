"""A predictor that fails on demand: a region's box chooses how. A box with y2 = 47 triggers the fault whose number is
its x1."""

import threading
import time
from collections.abc import Callable, Sequence
from enum import IntEnum

from dynrefer.model.errors import BoxError, DeviceLostError, DeviceMemoryError, StoppedError
from tests.fake_batch import FakeBatch
from tests.fakes import FakePredictor, FakeRegion, answer

MARK = 47.0  # y2 of a box that triggers a fault
STEP_S = 0.005


class Fault(IntEnum):
    """What a region does to the batch that it is in."""

    POISON = 1  # the batch raises an error
    TOO_BIG = 2  # no batch with it fits the device
    CROWD = 3  # no batch with it fits unless it is alone
    STARVE = 4  # from now on nothing fits
    HANG = 5  # the batch gives no heartbeat for `hang_s`
    SLOW = 6  # the batch takes `slow_s`, but checks whether it should stop
    NAN = 7  # the region's output is NaN
    QUERY = 8  # the run finds that the query is invalid
    DEATH = 9  # the device thread ends
    LOST = 10  # the device is lost


def box_of(fault: Fault) -> list[float]:
    """A box that triggers a fault."""
    return [float(fault), 40.0, 60.0, MARK]


class FaultyPredictor(FakePredictor):
    """hang_s, slow_s: how long those faults take."""

    hang_s: float = 3600.0
    slow_s: float = 60.0
    starving: bool = False

    def run(self, regions: Sequence[FakeRegion], should_stop: Callable[[], bool] = lambda: False) -> list[float]:
        """As the fake one, after whatever faults the regions trigger."""
        faults = _faults(regions)
        self._fail_to_begin(faults, len(regions))
        self._fail_to_go_on(faults)
        if Fault.SLOW in faults:
            _work_slowly(self.slow_s, should_stop)
        super().run(regions, should_stop)
        return [faulty_answer(region) for region in regions]

    def faulty_batch(self, run_s: float) -> FakeBatch[FakeRegion, float]:
        """A batch that regions join at any time, with the same faults; a region takes `run_s` seconds."""

        def admit(newcomers: Sequence[FakeRegion]) -> None:
            here = [*batch.items, *newcomers]
            self._fail_to_begin(_faults(newcomers) | (_faults(here) & {Fault.CROWD}), len(here))

        def step(here: Sequence[FakeRegion]) -> None:
            self._fail_to_go_on(_faults(here))
            if Fault.SLOW in _faults(here):
                time.sleep(STEP_S)

        batch: FakeBatch[FakeRegion, float] = FakeBatch(
            faulty_answer,
            cost=lambda region: region.num_views,
            more_steps=lambda region: int(self.slow_s / STEP_S) if Fault.SLOW in _faults([region]) else 0,
            admit_hook=admit,
            step_hook=step,
        )
        batch.pace = lambda time_: time.sleep(time_ * run_s / batch.steps)
        return batch

    def _fail_to_begin(self, faults: set[Fault], regions: int) -> None:
        self.starving = self.starving or Fault.STARVE in faults
        if self.starving or Fault.TOO_BIG in faults or (Fault.CROWD in faults and regions > 1):
            raise DeviceMemoryError("no memory")
        if Fault.POISON in faults:
            raise ValueError("an internal of the model's, a secret")
        if Fault.QUERY in faults:
            raise BoxError("The model cannot look at this box.")

    def _fail_to_go_on(self, faults: set[Fault]) -> None:
        if Fault.DEATH in faults:
            raise SystemExit
        if Fault.LOST in faults:
            raise DeviceLostError("the device fell off")
        if Fault.HANG in faults:
            threading.Event().wait(self.hang_s)


def faulty_answer(region: FakeRegion) -> float:
    """The fake predictor's output, or NaN."""
    return float("nan") if Fault.NAN in _faults([region]) else answer(region)


def _faults(regions: Sequence[FakeRegion]) -> set[Fault]:
    return {Fault(int(region.box[0])) for region in regions if region.box[3] == MARK}


def _work_slowly(seconds: float, should_stop: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if should_stop():
            raise StoppedError("no client waits")
        time.sleep(STEP_S)

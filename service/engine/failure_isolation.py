"""A batch that fails is run again in halves, until the failing items stand alone: they alone fail."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from dynrefer.model.errors import DeviceLostError, DeviceMemoryError, StoppedError

Work = TypeVar("Work")
Output = TypeVar("Output")

# (items, their outputs or the error of them all, when their run began on the monotonic clock)
Settle = Callable[[Sequence[Work], Sequence[Output] | Exception, float], None]


def run_isolated(
    run: Callable[[Sequence[Work]], Sequence[Output]],
    items: Sequence[Work],
    settle: Settle[Work, Output],
    lower_cap: Callable[[int], None],
) -> bool:
    """Run the items together; where that fails, in halves. Whether all went well in the end.

    settle: called for every group that needs no further run. lower_cap: called with the size that a batch should not
    exceed, where the device's memory was the only failure and halves fitted. Raises DeviceLostError if `run` does:
    then nothing can follow.
    """
    began = time.monotonic()
    outputs: Sequence[Output] = ()
    error: Exception | None = None
    try:
        outputs = run(items)
        if len(outputs) != len(items):
            raise RuntimeError(f"{len(items)} regions went in, {len(outputs)} outputs came out")
    except DeviceLostError:
        raise
    except Exception as raised:
        # The border of the device thread: whatever a model raises belongs to these items, and the loop lives.
        error = raised
    if error is None or isinstance(error, StoppedError) or len(items) == 1:
        settle(items, outputs if error is None else error, began)
        return error is None
    out_of_memory = isinstance(error, DeviceMemoryError)
    del error  # with it go the frames of the failed run and what they hold of the device's memory
    half = len(items) // 2
    well = [run_isolated(run, part, settle, lower_cap) for part in (items[:half], items[half:])]
    if out_of_memory and all(well):
        lower_cap(half)
    return all(well)

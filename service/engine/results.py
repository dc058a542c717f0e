"""What came off the device -> a request's answer, or one error that points at each region at fault."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynrefer.model import RegionDescription
from dynrefer.model.errors import DeviceMemoryError, OutputError, QueryError
from dynrefer.service.engine.batch_errors import Cancelled
from dynrefer.service.engine.device_thread import Predictor, PreparedRegion
from dynrefer.service.engine.fair_queue import RegionResult
from dynrefer.service.errors import DeadlineError, FieldError, RegionFailedError, UnavailableError

logger = logging.getLogger(__name__)

# Stages that the regions of one batch go through together.
BATCH_STAGES = ("vision", "heads", "caption")


@dataclass(frozen=True, slots=True)
class DescribeResult:
    """A request's answer, before it has a schema. Sizes in pixels, times in milliseconds.

    queue_ms, batches: per region. timings_ms: decode, views, queue, vision, heads, caption of the request as a whole.
    began_ns, submitted_ns: when its image was begun and its regions were queued, in nanoseconds since 1970.
    """

    width: int
    height: int
    regions: tuple[RegionDescription, ...]
    queue_ms: tuple[float, ...]
    batches: tuple[int, ...]
    timings_ms: Mapping[str, float]
    began_ns: int
    submitted_ns: int


def finish_regions(
    predictor: Predictor, prepared: Sequence[PreparedRegion], outcomes: Sequence[RegionResult[Any]]
) -> tuple[RegionDescription, ...]:
    """The regions' records. CPU work.

    Raises, for the regions at fault: QueryError, DeadlineError, UnavailableError (too large for the device's memory),
    RegionFailedError.
    """
    found: list[RegionDescription] = []
    failures: dict[int, Exception] = {}
    for index, (region, outcome) in enumerate(zip(prepared, outcomes, strict=True)):
        if outcome.error is not None:
            failures[index] = outcome.error
            continue
        try:
            found.append(_checked(predictor.finish(region, outcome.output)))
        except Exception as error:
            # The border of the model: whatever it raises belongs to this region.
            failures[index] = error
    if failures:
        raise _as_one(failures)
    return tuple(found)


def _checked(region: RegionDescription) -> RegionDescription:
    """Raises OutputError where a score is NaN or infinite: JSON has no such numbers, and no client expects them."""
    if not all(map(math.isfinite, _outputs(region))):
        raise OutputError("a score is NaN or infinite.")
    return region


def _outputs(region: RegionDescription) -> Iterator[float]:
    """Every number that came out of the network."""
    if region.caption is not None:
        yield from (region.caption.score, region.caption.logprob_sum, region.caption.logprob_mean)
    for labels in (region.tags, region.attributes, region.categories):
        for label in labels or ():
            yield label.score
            yield label.probability


def _as_one(failures: Mapping[int, Exception]) -> Exception:
    for index, error in failures.items():
        if isinstance(error, QueryError):
            error.index = index
            return error
        if isinstance(error, Cancelled):  # somebody does wait: then it was stopped at its deadline
            return DeadlineError("The deadline passed while the regions were being described.")
    starved = [index for index, error in failures.items() if isinstance(error, DeviceMemoryError)]
    if len(starved) == len(failures):
        detail = "The device has not enough memory for this region."
        return UnavailableError(detail, flaws=[FieldError(f"/regions/{index}", detail) for index in starved])
    logger.error("%d region(s) failed", len(failures), exc_info=next(iter(failures.values())))
    detail = "The model failed on this region."
    return RegionFailedError(detail, [FieldError(f"/regions/{index}", detail) for index in failures])


def total_stages(regions: Sequence[RegionDescription], outcomes: Sequence[RegionResult[Any]]) -> dict[str, float]:
    """Stage times of the request. Regions of one batch ran side by side, batches one after another."""
    totals = {
        "views": sum(region.timings_ms.get("views", 0.0) for region in regions),
        "queue": max(outcome.queue_ms for outcome in outcomes),
    }
    for stage in BATCH_STAGES:
        per_batch: dict[int, float] = {}
        for region, outcome in zip(regions, outcomes, strict=True):
            if stage in region.timings_ms:
                per_batch[outcome.batch] = max(per_batch.get(outcome.batch, 0.0), region.timings_ms[stage])
        if per_batch:
            totals[stage] = sum(per_batch.values())
    return totals

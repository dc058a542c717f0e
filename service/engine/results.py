"""Outputs of the device -> a request's result, or one error that points at each failing region."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dynrefer.model import DEVICE_STAGES, Predictor, RegionDescription
from dynrefer.model.errors import DeviceMemoryError, OutputError, QueryError, StoppedError
from dynrefer.service.engine.executor import Region
from dynrefer.service.engine.image_work import PreparedImage
from dynrefer.service.engine.reservations import Output, RegionResult
from dynrefer.service.errors import DeadlineExceeded, FieldError, RegionFailedError, UnavailableError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DescribeResult:
    """A request's result, before it has a schema. Sizes in pixels, times in milliseconds.

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


def finish_request(
    predictor: Predictor[Region, Output],
    image: PreparedImage[Region],
    results: Sequence[RegionResult[Output]],
    submitted_ns: int,
) -> DescribeResult:
    """The records of a request's regions. CPU work. Raises as `finish_regions` does."""
    regions = finish_regions(predictor, image.regions, results)
    return DescribeResult(
        image.width,
        image.height,
        regions,
        queue_ms=tuple(result.queue_ms for result in results),
        batches=tuple(result.batch for result in results),
        timings_ms={"decode": image.decode_ms, **total_stages(regions, results)},
        began_ns=image.began_ns,
        submitted_ns=submitted_ns,
    )


def finish_regions(
    predictor: Predictor[Region, Output], prepared: Sequence[Region], results: Sequence[RegionResult[Output]]
) -> tuple[RegionDescription, ...]:
    """The regions' records. CPU work.

    Raises, for the failing regions: QueryError, DeadlineExceeded, UnavailableError (too large for the device's
    memory), RegionFailedError.
    """
    found: list[RegionDescription] = []
    failures: dict[int, Exception] = {}
    for index, (region, result) in enumerate(zip(prepared, results, strict=True)):
        if result.error is not None:
            failures[index] = result.error
            continue
        try:
            found.append(_checked(predictor.finish(region, cast("Output", result.output))))
        except Exception as error:
            # The border of the model: whatever it raises belongs to this region.
            failures[index] = error
    if failures:
        raise _as_one(failures)
    return tuple(found)


def _checked(region: RegionDescription) -> RegionDescription:
    """Raises OutputError where a score is NaN or infinite: JSON has no such numbers, and no client expects them."""
    if not all(map(math.isfinite, _scores(region))):
        raise OutputError("a score is NaN or infinite.")
    return region


def _scores(region: RegionDescription) -> Iterator[float]:
    """Every number that came out of the network."""
    for result in region.results.values():
        for record in result if isinstance(result, tuple) else (result,):
            values = (getattr(record, name) for name in record.__dataclass_fields__)
            yield from (value for value in values if isinstance(value, float))


def _as_one(failures: Mapping[int, Exception]) -> Exception:
    for index, error in failures.items():
        if isinstance(error, QueryError):
            error.index = index
            return error
        if isinstance(error, StoppedError):  # somebody does wait: then it was stopped at its deadline
            return DeadlineExceeded("The deadline passed while the regions were being described.")
    out_of_memory = [index for index, error in failures.items() if isinstance(error, DeviceMemoryError)]
    if len(out_of_memory) == len(failures):
        detail = "The device has not enough memory for this region."
        return UnavailableError(detail, fields=[FieldError(f"/regions/{index}", detail) for index in out_of_memory])
    logger.error("%d region(s) failed", len(failures), exc_info=next(iter(failures.values())))
    detail = "The model failed on this region."
    return RegionFailedError(detail, [FieldError(f"/regions/{index}", detail) for index in failures])


def total_stages(regions: Sequence[RegionDescription], results: Sequence[RegionResult[Output]]) -> dict[str, float]:
    """Stage times of the request. Regions of one batch ran side by side, batches one after another."""
    totals = {
        "views": sum(region.timings_ms.get("views", 0.0) for region in regions),
        "queue": max(result.queue_ms for result in results),
    }
    for stage in DEVICE_STAGES:
        per_batch: dict[int, float] = {}
        for region, result in zip(regions, results, strict=True):
            if stage in region.timings_ms:
                per_batch[result.batch] = max(per_batch.get(result.batch, 0.0), region.timings_ms[stage])
        if per_batch:
            totals[stage] = sum(per_batch.values())
    return totals

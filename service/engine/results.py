"""Outputs of the device -> a request's result, or one error that points at each failing region."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dynrefer.model import DEVICE_STAGES, ImageInfo, Predictor, RegionDescription
from dynrefer.model.errors import DeviceMemoryError, OutputError, QueryError, StoppedError
from dynrefer.service.engine.executor import Region
from dynrefer.service.engine.kept_errors import anew, kept
from dynrefer.service.engine.reservations import Output, RegionResult
from dynrefer.service.errors import DeadlineExceeded, FieldError, RegionFailedError, UnavailableError
from dynrefer.service.workers.image_task import DescribeInput, PreparedImage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DescribeResult:
    """A request's result, before it has a schema. Times in milliseconds.

    regions: a description each, or, only where the request reports errors, why there is none. queue_ms, batches: per
    region; 0 for one that never was in a queue. timings_ms: decode, views, queue, vision, heads, caption of the request
    as a whole. began_ns, submitted_ns: when its image was begun and its regions were queued, in nanoseconds since 1970.
    """

    info: ImageInfo
    regions: tuple[RegionDescription | Exception, ...]
    queue_ms: tuple[float, ...]
    batches: tuple[int, ...]
    timings_ms: Mapping[str, float]
    began_ns: int
    submitted_ns: int


def summed_ms(results: Sequence[DescribeResult]) -> dict[str, float]:
    """Each stage's time in all of the results, which may have overlapped, in milliseconds."""
    stages = dict.fromkeys(stage for each in results for stage in each.timings_ms)
    return {stage: sum(each.timings_ms.get(stage, 0.0) for each in results) for stage in stages}


def finish_request(
    predictor: Predictor[Region, Output],
    request: DescribeInput,
    image: PreparedImage[Region],
    results: Sequence[RegionResult[Output]],
    submitted_ns: int,
) -> DescribeResult:
    """The records of a request's regions; results: of those that were prepared. CPU work.

    Raises as `finish_regions` does unless the request reports errors.
    """
    places = sorted(image.regions)
    ran = dict(zip(places, results, strict=True))
    found: dict[int, RegionDescription | Exception] = {**image.errors}
    found |= zip(places, finish_regions(predictor, image.ready, results, places, request.report_errors), strict=True)
    described = {place: each for place, each in found.items() if isinstance(each, RegionDescription)}
    stages = total_stages([(each, ran[place]) for place, each in described.items()])
    assert image.info is not None, "an image without regions was finished"
    return DescribeResult(
        image.info,
        tuple(found[place] for place in range(image.num_regions)),
        queue_ms=tuple(ran[place].queue_ms if place in ran else 0.0 for place in range(image.num_regions)),
        batches=tuple(ran[place].batch if place in ran else 0 for place in range(image.num_regions)),
        timings_ms={"decode": image.decode_ms, **stages},
        began_ns=image.began_ns,
        submitted_ns=submitted_ns,
    )


def finish_regions(
    predictor: Predictor[Region, Output],
    prepared: Sequence[Region],
    results: Sequence[RegionResult[Output]],
    places: Sequence[int],
    report_errors: bool = False,
) -> tuple[RegionDescription | Exception, ...]:
    """The regions' records; places: theirs in the request. CPU work. With report_errors, errors stand among them.

    Raises, for the failing regions: QueryError, DeadlineExceeded, UnavailableError (too large for the device's
    memory), RegionFailedError. Past the deadline that is all there is to report.
    """
    found: list[RegionDescription | Exception] = []
    failures: dict[int, Exception] = {}
    for place, region, result in zip(places, prepared, results, strict=True):
        error = result.error
        if error is None:
            try:
                found.append(_checked(predictor.finish(region, cast("Output", result.output))))
                continue
            except Exception as caught:
                # The border of the model: whatever it raises belongs to this region.
                error = kept(caught)
        failures[place] = error
        found.append(_as_one({place: error}) if report_errors else error)
    _raise_if_late(found)
    if failures and not report_errors:
        raise _as_one(failures)
    return tuple(found)


def failed_regions(failures: Mapping[int, Exception], report_errors: bool) -> dict[int, Exception]:
    """What is to be answered for regions that failed on the device, by place. Raises it unless errors are reported.

    Raises DeadlineExceeded in any case: past the deadline that is all there is to report.
    """
    if failures and not report_errors:
        raise _as_one(failures)
    found = {place: _as_one({place: error}) for place, error in failures.items()}
    _raise_if_late(found.values())
    return found


def _raise_if_late(found: Iterable[object]) -> None:
    late = next((each for each in found if isinstance(each, DeadlineExceeded)), None)
    if late is not None:
        raise anew(late)


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
            return anew(error)
        if isinstance(error, StoppedError):  # somebody does wait: then it was stopped at its deadline
            return DeadlineExceeded("The deadline passed while the regions were being described.")
    out_of_memory = [index for index, error in failures.items() if isinstance(error, DeviceMemoryError)]
    if len(out_of_memory) == len(failures):
        detail = "The device has not enough memory for this region."
        return UnavailableError(detail, fields=[FieldError(f"/regions/{index}", detail) for index in out_of_memory])
    logger.error("%d region(s) failed", len(failures), exc_info=next(iter(failures.values())))
    detail = "The model failed on this region."
    return RegionFailedError(detail, [FieldError(f"/regions/{index}", detail) for index in failures])


def total_stages(described: Sequence[tuple[RegionDescription, RegionResult[Output]]]) -> dict[str, float]:
    """Stage times of the request. Regions of one batch ran side by side, batches one after another.

    Batches that overlap count as one: what the slowest of their regions took.
    """
    totals = {
        "views": sum(region.timings_ms.get("views", 0.0) for region, _ in described),
        "queue": max((result.queue_ms for _, result in described), default=0.0),
    }
    for stage in DEVICE_STAGES:
        per_batch: dict[int | None, float] = {}
        for region, result in described:
            if stage in region.timings_ms:
                batch = None if result.overlapping else result.batch
                per_batch[batch] = max(per_batch.get(batch, 0.0), region.timings_ms[stage])
        if per_batch:
            totals[stage] = sum(per_batch.values())
    return totals

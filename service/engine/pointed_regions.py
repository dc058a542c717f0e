"""Requests with points: the masks of the objects that the points lie on come first, then all regions are described.

Two passes over the image, each in a worker process: the first cuts what the segmenter looks at, the second makes masks
of what it found and cuts all views. In between the masks are the device's work, in batches with those of other
requests. The image is decoded once for each pass: kept in between, it would hold a process and its memory for as long
as the queue lasts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dynrefer.model import PointedRegion, WindowMask, pointed_queries, queries_with_masks, queries_with_whole_image
from dynrefer.service.engine.reservations import RegionResult
from dynrefer.service.engine.results import DescribeResult, failed_regions
from dynrefer.service.workers.image_task import DescribeInput, PreparedImage


@dataclass(frozen=True, slots=True)
class FoundMasks:
    """What became of a request's points. request: all its regions, with the masks. failed: by place, why there is none;
    only where the request reports errors."""

    request: DescribeInput
    failed: Mapping[int, Exception]


def first_pass(request: DescribeInput) -> DescribeInput:
    """The regions with points alone. What is wrong with them is left for the second pass, which says all at once."""
    return replace(
        request,
        num_regions=len(request.pointed),
        queries=partial(pointed_queries, request.queries, request.pointed),
        report_errors=True,
        pointed=(),
    )


def ready_for_device(request: DescribeInput, image: PreparedImage[PointedRegion]) -> list[PointedRegion]:
    """What the segmenter is to look at; nothing where the request will be refused as a whole."""
    return [] if image.errors and not request.report_errors else image.ready


def with_masks(
    request: DescribeInput, image: PreparedImage[PointedRegion], results: Sequence[RegionResult[WindowMask]]
) -> FoundMasks:
    """The second pass. results: of the regions of `ready_for_device`.

    Raises as `finish_regions` does for regions that failed on the device, unless the request reports errors.
    """
    places = [request.pointed[place] for place in sorted(image.regions)]
    if not results:
        # The request will be refused for its other regions: anything does, as long as these are not taken for bad.
        return FoundMasks(replace(request, queries=partial(queries_with_whole_image, request.queries, places)), {})
    masks: dict[int, WindowMask] = {}
    failures: dict[int, Exception] = {}
    for place, result in zip(places, results, strict=True):
        if result.error is None and result.output is not None:
            masks[place] = result.output
        elif result.error is not None:
            failures[place] = result.error
    queries = partial(queries_with_masks, request.queries, masks)
    return FoundMasks(replace(request, queries=queries), failed_regions(failures, request.report_errors))


def with_failures(result: DescribeResult, found: FoundMasks, points_ms: float) -> DescribeResult:
    """The result of a request with points. points_ms: how long the masks took."""
    regions = tuple(found.failed.get(place, region) for place, region in enumerate(result.regions))
    return replace(result, regions=regions, timings_ms={"points": points_ms, **result.timings_ms})

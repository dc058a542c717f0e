"""Requests that find regions: up to four passes over the image, with one place in the queue and one deadline.

The first finds. Where the finder does not know what was asked for, the describer names candidates; where masks are
asked for that the finder does not make, the segmenter does; and what was found is described, if that is asked for. The
image is decoded once for each pass that there is, as it is for points.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dynrefer.model import MOST_LOOKS, find_queries, given_queries
from dynrefer.service.engine.results import DescribeResult, failed_regions
from dynrefer.service.workers.image_task import DescribeInput, PreparedImage

if TYPE_CHECKING:
    from dynrefer.model import (
        Candidates,
        DecodedImage,
        FinderInput,
        Findings,
        FindQuery,
        ImageInfo,
        RegionDescription,
        RegionQuery,
    )
    from dynrefer.service.engine.reservations import RegionResult


@dataclass(frozen=True, slots=True)
class DetectInput:
    """An encoded image, and what is to be found in it. image, decode: as in `DescribeInput`.

    to_describe: what is asked of each region that is found, its box aside; None: nothing.
    """

    image: bytes
    decode: Callable[..., DecodedImage]
    query: FindQuery
    to_describe: RegionQuery | None = None

    @property
    def room(self) -> int:
        """What the request reserves: the search, and as many regions as one of the later passes may hold."""
        return 1 + max(self.query.max_regions if self.goes_on else 0, MOST_LOOKS)

    @property
    def goes_on(self) -> bool:
        """Whether what is found is looked at again, for masks or to be described."""
        return self.to_describe is not None or self.query.masks or not self.query.names

    @property
    def to_find(self) -> DescribeInput:
        """The work of the first pass."""
        # What is searched is no region, but it is prepared and run as one.
        queries: Callable[..., Sequence[Any]] = partial(find_queries, self.query)
        return DescribeInput(1, self.image, self.decode, queries)

    def about(self, regions: Sequence[RegionQuery]) -> DescribeInput:
        """The work of a later pass."""
        return DescribeInput(len(regions), self.image, self.decode, partial(given_queries, tuple(regions)))

    def with_looks(self, looks: Sequence[RegionQuery]) -> list[RegionQuery]:
        """The queries by which the describer names candidates; where what is to be described holds all that they ask,
        with its tasks too, so that one pass does for both."""
        if not self.describes_by(looks):
            return list(looks)
        assert self.to_describe is not None
        return [replace(look, tasks=self.to_describe.tasks, top_k=self.to_describe.top_k) for look in looks]

    def describes_by(self, looks: Sequence[RegionQuery]) -> bool:
        """Whether the pass that names candidates also describes them: only where their names stay the same by that."""
        wanted = self.to_describe
        if wanted is None or wanted.tasks is None or self.query.names or self.query.phrase is not None:
            return False
        plain = replace(wanted, tasks=None, top_k=0)
        return all(
            set(look.tasks or ()) <= set(wanted.tasks)
            and look.top_k <= wanted.top_k
            and replace(look, box=wanted.box, tasks=None, top_k=0) == plain
            for look in looks
        )


@dataclass(frozen=True, slots=True)
class DetectResult:
    """A request's result, before it has a schema. descriptions: of the regions that were found, in order; empty where
    none were asked for. began_ns: when the first pass began, in nanoseconds since 1970. timings_ms: by stage, in order.
    """

    info: ImageInfo
    findings: Findings
    descriptions: tuple[RegionDescription, ...]
    began_ns: int
    timings_ms: Mapping[str, float]


class StageTimes:
    """How long the passes of one request take, in milliseconds."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.timings_ms: dict[str, float] = {}

    def ended(self, stage: str) -> None:
        """The stage was all that happened since the last one."""
        now = time.perf_counter()
        self.timings_ms[stage] = (now - self._began) * 1e3
        self._began = now

    def described(self, result: DescribeResult | None) -> None:
        """The stages of regions that were described, if any were."""
        if result is not None:
            self.timings_ms |= {stage: ms for stage, ms in result.timings_ms.items() if stage != "decode"}


def only_result(results: list[RegionResult[Any]]) -> Candidates:
    """What was found in the one image. Raises what the device raised, as it is answered."""
    (found,) = all_results(results)
    return cast("Candidates", found)


def all_results(results: list[RegionResult[Any]]) -> list[Any]:
    """What the device found for each item. Raises what it raised for any, as it is answered."""
    failures = {place: result.error for place, result in enumerate(results) if result.error is not None}
    failed_regions(failures, report_errors=False)
    return [result.output for result in results]


def info_of(image: PreparedImage[FinderInput]) -> ImageInfo:
    """What is known of the image, once it is decoded."""
    assert image.info is not None, "an image that was not decoded was searched"
    return image.info


def regions_of(result: DescribeResult | None) -> tuple[RegionDescription, ...]:
    """The regions of a pass, none of which failed; none where there was no pass."""
    return () if result is None else tuple(each for each in result.regions if not isinstance(each, Exception))

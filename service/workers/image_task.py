"""The work on one image, wherever it runs: bytes -> an upright image -> one prepared region per query.

Nothing here imports torch, NumPy, pydantic or the web framework: worker processes load this module.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from dynrefer.model import DecodedImage, ImageInfo, Preparation, QueryError, ReadyRegion, RegionQuery

Region = TypeVar("Region", bound="ReadyRegion")

PROMPTS_PER_IMAGE = 8  # so many masks or polygons may take as long as decoding the image

# (width, height) of the upright image, once its header has been read and before any pixel is decoded.
OnHeader = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DescribeInput:
    """An encoded image and the regions to describe on it, before any work is spent on them.

    image: the file's bytes. decode: (those bytes, on_header=) -> the upright image; see `OnHeader`. queries: what is
    known of it -> the `num_regions` queries. Both are CPU work and may raise whatever is to be answered; they are
    functions of a module, or partials of them with plain arguments, so that they can be called in another process.
    report_errors: whether a region that cannot be described leaves its error in the result, and the others go on.
    pointed: the places of regions that points are given for: their masks have to be found first.
    prompts: how many regions are given as something else than a box, which takes work as well.
    """

    num_regions: int
    image: bytes
    decode: "Callable[..., DecodedImage]"
    queries: "Callable[[ImageInfo], Sequence[RegionQuery]]"
    report_errors: bool = False
    pointed: tuple[int, ...] = ()
    prompts: int = 0

    @property
    def time_allowance(self) -> float:
        """By how much more than decoding an image may take, decoding it and reading its prompts may."""
        return 1.0 + self.prompts / PROMPTS_PER_IMAGE


@dataclass(slots=True)
class PreparedImage(Generic[Region]):
    """An image whose regions are ready for the device, or are being made so.

    began_ns: when its decoding began, in nanoseconds since 1970. regions: by place, those that are prepared.
    errors: by place, why the others cannot be; only where the request reports errors.
    """

    num_regions: int
    info: "ImageInfo | None" = None
    began_ns: int = 0
    decode_ms: float = 0.0
    regions: dict[int, Region] = field(default_factory=dict)
    errors: "dict[int, QueryError]" = field(default_factory=dict)

    @property
    def ready(self) -> list[Region]:
        """The prepared regions, in order."""
        return [self.regions[place] for place in sorted(self.regions)]

    @property
    def left(self) -> int:
        """How many regions have not been looked at yet."""
        return self.num_regions - len(self.regions) - len(self.errors)


@dataclass(frozen=True, slots=True)
class Decoded:
    """The first step of a task. decode_ms: how long decoding took. errors: regions that cannot be described."""

    info: "ImageInfo"
    began_ns: int
    decode_ms: float
    errors: "dict[int, QueryError]"


def image_steps(
    request: DescribeInput, preparation: "Preparation[Region]", first: int, on_header: OnHeader
) -> "Iterator[Decoded | tuple[int, Region]]":
    """The image decoded, then its regions with their places, one per step; the work may be interrupted in between.

    first: regions before this place are left out; they were prepared before. Raises what `decode` and `queries` raise,
    and QueryError for regions that cannot be described, all of them at once and before any view is cut.
    """
    began, began_ns = time.perf_counter(), time.time_ns()
    decoded = request.decode(memoryview(request.image), on_header=on_header)
    decode_ms = (time.perf_counter() - began) * 1e3
    queries = request.queries(decoded.info)
    errors = preparation.invalid(queries, (decoded.info.width, decoded.info.height))
    if errors and not request.report_errors:
        from dynrefer.model.errors import InvalidQueriesError

        try:
            raise InvalidQueriesError.one_or_all(errors)
        finally:
            del errors  # their traces keep this function, and so the decoded image
    failed = {error.index: error for error in errors if error.index is not None}
    yield Decoded(replace(decoded.info, alpha=None), began_ns, decode_ms, failed)
    places = [place for place in range(first, len(queries)) if place not in failed]
    yield from zip(places, preparation.prepare_each(decoded.pixels, [queries[place] for place in places]), strict=True)


def take(image: PreparedImage[Region], step: "Decoded | tuple[int, Region]") -> None:
    """Note the outcome of a step. The second decoding of an image whose work was interrupted changes nothing."""
    if not isinstance(step, Decoded):
        image.regions[step[0]] = step[1]
    elif image.info is None:
        image.info, image.began_ns, image.decode_ms, image.errors = (
            step.info,
            step.began_ns,
            step.decode_ms,
            step.errors,
        )

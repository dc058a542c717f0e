"""Finding regions that nobody has drawn: what is asked, and what passes between the steps. No torch or NumPy at import.

    FinderSpec.prepare_each   (CPU, any process)     image, a `FindQuery` -> a `FinderInput`
    Finder.find               (the device's thread)  inputs -> `Candidates`: boxes and what the finder says of them
    Predictor.look_again      (CPU, any thread)      candidates that the describer has to name -> queries about regions
    Predictor.findings        (CPU, any thread)      candidates and what was described -> `Findings`

There are three questions: names (open-vocabulary detection), a phrase (grounding: each of its noun phrases is found),
and neither (everything is proposed, and the describer names it).
Shapes: N = candidates, T = texts, h w = a map over the image. Boxes as in `types.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dynrefer.model.errors import ImageError
from dynrefer.model.records import NOT_JSON, JsonRecord
from dynrefer.model.request_vocabulary import UnknownWord
from dynrefer.model.score_reading import ScoreReading

if TYPE_CHECKING:
    import fiftyone as fo
    import numpy as np
    import supervision as sv
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

    from dynrefer.model.errors import QueryError
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.images import Pixels
    from dynrefer.model.masks import RegionMask
    from dynrefer.model.preview import Preview
    from dynrefer.model.types import Corners, ImageInfo, RegionDescription, RegionQuery

NO_FINDER = (
    "Regions can only be found with a finder, and this model is used without one: start with --finder DIR, a local "
    "directory with a finder of transformers, or use the embedded model."
)
MOST_LOOKS = 20  # so many candidates at most does the describer look at, to name what the finder has no word for
# What a search counts as in a batch: so much that on a CPU it is a batch of its own, and others wait for one alone.
FIND_VIEWS = 48


@dataclass(frozen=True, slots=True)
class AskedName:
    """A name to find. synonyms: other words for it; a box that any of them fits is the name's.

    excluded: words for things that look alike and are not meant; where one of them fits a box better, it is left out.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NounPhrase:
    """A noun phrase of the sentence that is grounded. span: its characters [start, end) in the sentence."""

    text: str
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FindQuery:
    """What is to be found in an image: `names`, or `phrase`, or with neither every object.

    phrase: a sentence. threshold: least score of a region; None: the finder's own. nms: boxes of one name that overlap
    by more (intersection over union) are one object. max_regions: the best so many. masks: whether each region's mask
    is wanted too.
    """

    names: tuple[AskedName, ...] = ()
    phrase: str | None = None
    threshold: float | None = None
    nms: float = 0.5
    max_regions: int = 50
    masks: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FinderInput:
    """An image ready to be searched. pixels: (h, w, 3) uint8 RGB, the whole image scaled by the finder's rule.

    size: (W, H) of the upright image. query: what is asked of it. more: the image at other scales, for a finder that
    looks at several.
    """

    pixels: NDArray[np.uint8]
    size: ImageSize
    query: FindQuery
    more: tuple[NDArray[np.uint8], ...] = ()

    @property
    def num_views(self) -> int:
        """What it counts as in a batch."""
        return FIND_VIEWS


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What a finder says of one image, best objectness first; nothing is suppressed among names yet.

    boxes: (N, 4) float32 xyxy, pixels of the upright image, inside it. objectness: (N,) float32 in [0, 1], that there
    is an object with this box, whatever it is.
    texts: what was scored, each text once: of names, then their synonyms and excluded words, or the noun phrases.
    scores: (N, T) float32 in [0, 1], that the box is of an object that the text names; NaN where the finder cannot
    tell, because it does not know the text: then the describer looks at the boxes (`Predictor.look_again`). A box
    that was found for other texts has 0.
    presence: (T,) float32, the calibrated probability that the image shows such an object; NaN as in scores.
    phrases: of a grounded sentence, in the order of `texts`. photograph: probability that the image is a photograph
    and no drawing; None where the finder does not distinguish. mask_logits: (N, h, w) float16 over the whole image,
    above 0 where the object is; None where masks were not asked for, or the finder makes none.
    unknown: asked words that nothing is known of. reading: how the scores are to be read.
    kin: (T, T) bool, whether of two texts one names what the other does ("dog", "animal"), so that both may have the
    same box; None where the finder does not know.
    """

    boxes: NDArray[np.float32]
    objectness: NDArray[np.float32]
    texts: tuple[str, ...]
    scores: NDArray[np.float32]
    presence: NDArray[np.float32]
    phrases: tuple[NounPhrase, ...] = ()
    photograph: float | None = None
    mask_logits: NDArray[np.float16] | None = None
    unknown: tuple[UnknownWord, ...] = ()
    reading: ScoreReading = ScoreReading()
    kin: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class FoundRegion(JsonRecord):
    """A region that was found. box: xyxy pixels of the upright image. label: the client's own name, the phrase's text,
    or what the describer calls it. score: what thresholds apply to. probability: the calibrated one.

    candidate: its row in the `Candidates`. span: of a phrase, its characters [start, end) in the sentence.
    phrase, category, parent: where nothing was asked for, the three levels of the object's name.
    mask: where masks were asked for. description: where it was described, all of it.
    """

    box: Corners
    label: str
    score: float
    probability: float
    candidate: int
    mask: RegionMask | None = None
    span: tuple[int, int] | None = None
    phrase: str | None = None
    category: str | None = None
    parent: str | None = None
    description: RegionDescription | None = None

    def _repr_html_(self) -> str:
        """For notebooks."""
        from dynrefer.model.drawing.html import found_html

        return found_html(self)


@dataclass(frozen=True, slots=True)
class AbsentName(JsonRecord):
    """A name, or noun phrase, that has no box. probability: that the image shows it all the same; below .5.

    span: of a noun phrase.
    """

    name: str
    probability: float
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Findings(JsonRecord):
    """The answer. regions: by descending score. unknown_words: asked words that nothing is known of.

    preview: what is remembered of the image, for drawings; None where nothing is.
    """

    regions: tuple[FoundRegion, ...]
    absent: tuple[AbsentName, ...] = ()
    unknown_words: tuple[UnknownWord, ...] = field(default=())
    preview: Preview | None = field(default=None, compare=False, repr=False, metadata=NOT_JSON)

    def draw(self, longest: int = 1600) -> PilImage:
        """The image with what was found. As `Descriptions.draw`."""
        from dynrefer.model.described import NO_IMAGE
        from dynrefer.model.drawing import annotation_of_found, draw_regions

        if self.preview is None:
            raise ImageError(NO_IMAGE)
        annotations = [annotation_of_found(each) for each in self.regions]
        return draw_regions(self.preview.image(), annotations, size=self.preview.size, longest=longest)

    def to_supervision(self, **options: Any) -> sv.Detections:
        """As supervision's detections; options: see `detections.to_supervision`."""
        from dynrefer.model.detections import to_supervision

        return to_supervision(self.regions, **options)

    def to_fiftyone(self, size: ImageSize | None = None, **options: Any) -> fo.Detections:
        """As FiftyOne's detections. size: (width, height) of the image, where these results do not know it; options:
        see `detections.to_fiftyone`."""
        from dynrefer.model.detections import to_fiftyone

        known = None if self.preview is None else self.preview.size
        return to_fiftyone(self.regions, size or known, **options)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from dynrefer.model.drawing.html import findings_html

        return findings_html(self)


def lack_masks(findings: Findings, query: FindQuery) -> bool:
    """Whether masks were asked for, and regions have none: then a segmenter has to find them in their boxes."""
    return query.masks and any(region.mask is None for region in findings.regions)


def find_queries(query: FindQuery, info: ImageInfo) -> list[FindQuery]:
    """What is asked of an image whatever is known of it: the query. It pickles, as a partial."""
    return [query]


def given_queries(queries: Sequence[RegionQuery], info: ImageInfo) -> list[RegionQuery]:
    """Queries about regions that were found in the upright image. It pickles, as a partial."""
    return list(queries)


class FinderSpec(Protocol):
    """How images are prepared for a finder: a plain value that pickles, for worker processes. Fulfils `Preparation`,
    with `FindQuery` in the place of queries about regions."""

    def invalid(self, queries: Sequence[FindQuery], size: ImageSize) -> list[QueryError]:
        """What cannot be asked of an image of (width, height)."""

    def prepare_each(self, image: Pixels, queries: Sequence[FindQuery]) -> Iterator[FinderInput]:
        """One input per query. image: (H, W, 3) uint8 RGB, upright."""


class Finder(Protocol):
    """Finds objects in images. It belongs to the device's thread, but for `spec`.

    A name's boxes and scores depend neither on the other names that are asked nor on their order nor on what else is
    in the batch (to 1e-4).
    """

    @property
    def spec(self) -> FinderSpec:
        """How images are prepared for it."""

    def find(self, images: Sequence[FinderInput], should_stop: Callable[[], bool]) -> list[Candidates]:
        """One `Candidates` per image, in order. should_stop: polled between pieces of work; StoppedError once true."""

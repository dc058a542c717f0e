"""The records that go into the model and come out of it; those of a task's result are defined in the task's file.

No torch at import. Coordinates: every box is (x1, y1, x2, y2) in pixels of the upright image, x to the right, y down,
x2 and y2 exclusive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from dynrefer.model.errors import QueryError
from dynrefer.model.explanation import Explain, Explanation
from dynrefer.model.masks import RegionMask
from dynrefer.model.points import PointPrompt
from dynrefer.model.records import JsonRecord
from dynrefer.model.request_vocabulary import RequestVocabulary, UnknownWord
from dynrefer.model.tasks import TASKS
from dynrefer.model.tasks.attributes import AttributeLabel
from dynrefer.model.tasks.caption import Caption, CaptionCandidate, CaptionWriting
from dynrefer.model.tasks.scoring import Label
from dynrefer.model.translations import NO_TRANSLATIONS, Translations

__all__ = [
    "ALL_TASKS",
    "AttributeLabel",
    "Caption",
    "CaptionCandidate",
    "CaptionWriting",
    "Corners",
    "ImageInfo",
    "LIKELY",
    "Label",
    "ModelCard",
    "PointPrompt",
    "RegionDescription",
    "RegionMask",
    "RegionQuery",
    "Task",
    "View",
    "ViewCandidate",
    "ViewPlan",
    "ViewPolicy",
]

LIKELY = 0.5  # a calibrated probability from which on what is said is more probably right than wrong

Corners = tuple[float, float, float, float]

if TYPE_CHECKING:

    class Task(StrEnum):
        """What can be requested for a region."""

        CAPTION = "caption"
        TAGS = "tags"
        ATTRIBUTES = "attributes"
        CATEGORIES = "categories"

else:  # at run time the members are those of TASKS; a type checker cannot follow that
    Task = StrEnum("Task", {task.name.upper(): task.name for task in TASKS}, module=__name__)

ALL_TASKS: tuple[Task, ...] = tuple(Task)


class ViewPolicy(StrEnum):
    """How the views of a region were chosen."""

    IMAGE_PRIOR = "image_prior"  # no task: greedy perceptual-hash search (paper, section 3.4)
    TASK_PRIOR = "task_prior"  # a task: the views that suit it, from the model's configuration
    FIXED = "fixed"  # given in the request

    def contradiction(self, views: Sequence[float] | None) -> str:
        """What is wrong with this policy by force beside these explicit t values, as a sentence; empty if nothing."""
        if self is ViewPolicy.FIXED:
            return "" if views is not None else "The view policy 'fixed' needs 'views', the t values to look at."
        if views is None:
            return ""
        return f"Given 'views' leave nothing to the view policy '{self}'; leave one of the two out."


@dataclass(frozen=True, slots=True)
class ImageInfo(JsonRecord):
    """What an image file's header says.

    width, height: of the upright image, in pixels. orientation: EXIF 1 to 8, how the stored rows and columns are turned
    to be upright. frames: how many images the file holds; the first one is used. alpha: the pixels of the upright image
    that its alpha channel shows, where that was asked for and there is one.
    """

    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    alpha: RegionMask | None = None


@dataclass(frozen=True, slots=True)
class RegionQuery(JsonRecord):
    """One region to describe.

    box: xyxy pixels of the upright image; partly outside is clipped, wholly outside raises `BoxError`.
    tasks: what to compute, with each task's prior views; None computes all tasks with the image prior.
    controls: words that the caption should take up.
    views: explicit t values, the first 0.0, as many as the model's `num_views`; None leaves the choice to the policy.
    view_policy: how views are chosen; None: FIXED with `views`, TASK_PRIOR with `tasks`, else IMAGE_PRIOR.
    top_k: the most labels that a task returns.
    thresholds: per task; only scores strictly above are returned. Tags default to the model's own threshold.
    vocabulary: words of the client's own; None: the model's.
    writing: how the caption is searched for.
    mask: the region's pixels, whose bounds `box` is; None where only a box is known.
    highlight: whether pixels outside the mask are blanked in the views.
    points: at the object; a segmenter finds the mask, and with it the box, before the region is described.
    flaw: why what the region was pointed at with gives no region; raised where queries are checked.
    explain: what to say of why; None: nothing.
    rough: whether the box, of a scribble, says about where the object is and not where it ends.
    """

    box: Corners
    tasks: tuple[Task, ...] | None = None
    controls: tuple[str, ...] = ()
    views: tuple[float, ...] | None = None
    top_k: int = 10
    thresholds: Mapping[Task, float] = field(default_factory=dict)
    vocabulary: RequestVocabulary | None = None
    writing: CaptionWriting = CaptionWriting()
    mask: RegionMask | None = None
    highlight: bool = False
    points: tuple[PointPrompt, ...] = ()
    flaw: QueryError | None = None
    view_policy: ViewPolicy | None = None
    explain: Explain | None = None
    rough: bool = False


@dataclass(frozen=True, slots=True)
class View(JsonRecord):
    """A crop between the region (t = 0) and the whole image (t = 1); box in float pixels of the image."""

    t: float
    box: Corners


@dataclass(frozen=True, slots=True)
class ViewCandidate(JsonRecord):
    """One candidate of the hash search: its Hamming distance to t = 0 (0..64 bits) and gain = distance / t.

    hash: of its crop, as ImageHash writes it: 16 hexadecimal digits.
    """

    t: float
    box: Corners
    distance: int
    gain: float
    hash: str


@dataclass(frozen=True, slots=True)
class ViewPlan(JsonRecord):
    """The views chosen for a region, t = 0 first and then best gain first (the fusion depends on the order)."""

    views: tuple[View, ...]
    policy: ViewPolicy
    candidates: tuple[ViewCandidate, ...] = ()


@dataclass(frozen=True, slots=True)
class RegionDescription(JsonRecord):
    """The description of one region.

    box: the region that was described, after clipping. clipped: whether clipping changed it.
    plan: the views, if all tasks shared them; else None, and `plans` holds the views of each task.
    results: task -> its result, for the tasks that were requested, in the order of `TASKS`.
    timings_ms: stage -> milliseconds; of this region's preparation ("views") and of the batch that it was part of.
    domain: "drawing" or "photograph", what the region was taken for; None for models that do not tell them apart.
    unknown_words: words of the query's vocabulary that the model knows nothing about; no result holds them.
    mask: what a segmenter found at the points that were given; None for regions that were given in another way.
    explanation: why, where the query asks for it.
    """

    box: Corners
    clipped: bool
    plan: ViewPlan | None
    plans: Mapping[Task, ViewPlan]
    results: Mapping[str, Any] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    domain: str | None = None
    unknown_words: tuple[UnknownWord, ...] = ()
    mask: RegionMask | None = None
    explanation: Explanation | None = None

    @property
    def caption(self) -> Caption | None:
        """The caption, or None if it was not requested."""
        return self.results.get(Task.CAPTION)

    @property
    def tags(self) -> tuple[Label, ...] | None:
        """The tags, best first, or None if they were not requested."""
        return self.results.get(Task.TAGS)

    @property
    def attributes(self) -> tuple[AttributeLabel, ...] | None:
        """The attributes, best first, or None if they were not requested."""
        return self.results.get(Task.ATTRIBUTES)

    @property
    def categories(self) -> tuple[Label, ...] | None:
        """The categories, best first, or None if they were not requested."""
        return self.results.get(Task.CATEGORIES)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from dynrefer.model.drawing.html import description_html

        return description_html(self)


@dataclass(frozen=True, slots=True)
class ModelCard(JsonRecord):
    """What a client may know about the loaded model.

    vocabulary: task -> every label that it can return. task_priors: task -> t of its views.
    batch_invariant: whether a probe at load found that a region's numbers do not depend on what else is in its batch.
    prompts: what a region may be given as; "points" where there is a segmenter. detection: whether there is a finder.
    conversation: whether there is a converser.
    translations: of the vocabulary's words. max_caption_tokens: of a generated caption, its end included; None: not
    known.
    """

    name: str
    revision: str
    parameters: int
    dtype: str
    device: str
    num_views: int
    view_size: int
    vocabulary: Mapping[str, tuple[str, ...]]
    task_priors: Mapping[str, tuple[float, ...]]
    thresholds: Mapping[str, float]
    trained_on: str
    intended_use: str
    batch_invariant: bool = False
    prompts: tuple[str, ...] = ("box",)
    detection: bool = False
    conversation: bool = False
    translations: Translations = NO_TRANSLATIONS
    max_caption_tokens: int | None = None

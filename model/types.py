"""The records that go into the model and come out of it. No torch here: importing them costs nothing.

Frames: every box is (x1, y1, x2, y2) in pixels of the upright image, x to the right, y down, x2 and y2 exclusive.
Letters: R regions, V views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Corners = tuple[float, float, float, float]


class Task(StrEnum):
    """What may be asked about a region."""

    CAPTION = "caption"
    TAGS = "tags"
    ATTRIBUTES = "attributes"
    CATEGORIES = "categories"


ALL_TASKS: tuple[Task, ...] = tuple(Task)


class ViewPolicy(StrEnum):
    """Why the views of a region are what they are."""

    IMAGE_PRIOR = "image_prior"  # no task: greedy perceptual-hash search (paper, section 3.4)
    TASK_PRIOR = "task_prior"  # a task: the views that suit it, from the model's configuration
    FIXED = "fixed"  # given in the request


@dataclass(frozen=True, slots=True)
class RegionQuery:
    """One region that the client asks about.

    box: xyxy pixels of the upright image; partly outside is clipped, wholly outside raises `BoxError`.
    tasks: what to compute, with the task's prior views; None computes all four with the image prior.
    controls: words that the caption should take up.
    views: explicit t values, the first 0.0, as many as the model's `num_views`; None lets the policy choose.
    top_k: the most tags, attributes and categories that come back.
    thresholds: least score per task, compared with `score`, strictly above; tags default to the model's.
    """

    box: Corners
    tasks: tuple[Task, ...] | None = None
    controls: tuple[str, ...] = ()
    views: tuple[float, ...] | None = None
    top_k: int = 10
    thresholds: Mapping[Task, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """A crop between the region (t = 0) and the whole image (t = 1); box in float pixels of the image."""

    t: float
    box: Corners


@dataclass(frozen=True, slots=True)
class ViewCandidate:
    """One candidate of the hash search: its Hamming distance to t = 0 (0..64 bits) and gain = distance / t."""

    t: float
    box: Corners
    distance: int
    gain: float


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """The views chosen for a region, t = 0 first and then best gain first (the fusion depends on the order)."""

    views: tuple[View, ...]
    policy: ViewPolicy
    candidates: tuple[ViewCandidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Caption:
    """text; score = exp(beam score) as the official code reports it; sum and per-token mean of log-probabilities."""

    text: str
    score: float
    logprob_sum: float
    logprob_mean: float


@dataclass(frozen=True, slots=True)
class Label:
    """A tag or a category: `score` is the raw value, `probability` the calibrated one in [0, 1]."""

    name: str
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class AttributeLabel:
    """An attribute "type:value"; `value` is the first of its synonyms."""

    name: str
    type: str
    value: str
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class RegionDescription:
    """Everything that was found about one region. A task that was not asked for is None.

    box: as looked at, after clipping. clipped: whether clipping changed it.
    plan: the views, when all tasks shared them; else None, and `plans` says which task saw which views.
    timings_ms: own stage times of this region (views, vision, heads, caption), milliseconds.
    """

    box: Corners
    clipped: bool
    plan: ViewPlan | None
    plans: Mapping[Task, ViewPlan]
    caption: Caption | None = None
    tags: tuple[Label, ...] | None = None
    attributes: tuple[AttributeLabel, ...] | None = None
    categories: tuple[Label, ...] | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a client may know about the loaded model."""

    name: str
    revision: str
    parameters: int
    dtype: str
    device: str
    num_views: int
    view_size: int
    vocabulary: Mapping[str, tuple[str, ...]]  # task -> names: "tags", "attributes", "categories"
    task_priors: Mapping[str, tuple[float, ...]]
    thresholds: Mapping[str, float]
    trained_on: str
    intended_use: str

"""Why a region was described as it was: what is asked for, and the records of the answer.

No torch, no NumPy at import: these records are part of `types.py`. What they hold is worked out where images are
prepared (`explained_views.py`) and where results are finished (`explaining.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynrefer.model.records import JsonRecord


@dataclass(frozen=True, slots=True)
class Explain(JsonRecord):
    """What an explanation is to hold beside the chosen views and the priors.

    candidates: every view that the hash search compares, not the chosen ones alone. thumbnails: a small picture of each
    listed view. evidence: labels, words, control words and what the object was taken for.
    """

    candidates: bool = True
    thumbnails: bool = False
    evidence: bool = True


@dataclass(frozen=True, slots=True)
class ExplainedView(JsonRecord):
    """A view that was looked at or could have been; box in float pixels of the upright image.

    hash: the perceptual hash of its crop, 64 bits as ImageHash writes them, 16 hexadecimal digits.
    distance: of that hash to the one of t = 0, in bits. gain: distance / t, by which the search ranks; None at t = 0.
    tasks: those that were answered by this view; empty for one that was not chosen.
    thumbnail: the view as the network sees it: a WebP file in Base64, at most `explained_views.THUMBNAIL_SIDE` wide.
    """

    t: float
    box: tuple[float, float, float, float]
    hash: str
    distance: int
    gain: float | None
    tasks: tuple[str, ...] = ()
    thumbnail: str | None = None

    @property
    def chosen(self) -> bool:
        """Whether any task was answered by this view."""
        return bool(self.tasks)


@dataclass(frozen=True, slots=True)
class UsedPrior(JsonRecord):
    """How the views of these tasks were chosen. policy: a `ViewPolicy`. views: their t, in the order of the fusion."""

    tasks: tuple[str, ...]
    policy: str
    views: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PlacedSense(JsonRecord):
    """Where a word of the request has its place among the model's nouns. word: the name or a synonym.

    sense: the meaning that was taken, "lemma.number" as WordNet numbers its noun senses. via: "own", "synonym",
    "broader", "narrower" or "relative" of the model's own words; see `evidence/word_placement.py`.
    """

    word: str
    sense: str
    via: str


@dataclass(frozen=True, slots=True)
class ExplainedLabel(JsonRecord):
    """A label of the answer. score and probability as there.

    source: "network"; "evidence" (tower, detector and colour, of a photograph); "placement" (a word of the request that
    has its place among the model's nouns). logit: the raw one, behind the score; None where no network scored it.
    synonym: the word of an attribute whose prompt scored best; None for other labels. senses: of a placed word.
    """

    name: str
    score: float
    probability: float
    source: str
    logit: float | None = None
    synonym: str | None = None
    senses: tuple[PlacedSense, ...] = ()


@dataclass(frozen=True, slots=True)
class Support(JsonRecord):
    """The label that speaks for a word of the caption: task "tags" or "categories", scores as in `Label`."""

    task: str
    name: str
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class LeftOut(JsonRecord):
    """A word's label without one view. t: of the view that t = 0 stood in for.

    drop: by how much that lowers the label's calibrated log odds; negative where the view spoke against it.
    """

    t: float
    drop: float


@dataclass(frozen=True, slots=True)
class ExplainedWord(JsonRecord):
    """A word of the caption, [start, end) in characters of its text.

    kind: "noun"; "property", such as a colour or a place; "unknown", a word of no list of the model.
    support: the best label that says the same; None where there is none. supported: whether that label is said, too.
    carried_by: "view", "evidence" (tower and detector, of a photograph), or None without a support.
    view: t of the view that carried it, 0.0 where the region itself is enough. left_out: what that was seen from.
    """

    text: str
    start: int
    end: int
    kind: str
    supported: bool
    support: Support | None = None
    carried_by: str | None = None
    view: float | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlWord(JsonRecord):
    """A control word. source: "request", "tags" or "evidence". given: whether the language model got it, or it was cut.
    taken_up: whether the caption holds it."""

    word: str
    source: str
    given: bool
    taken_up: bool


@dataclass(frozen=True, slots=True)
class NameProbability(JsonRecord):
    """A name and its calibrated probability."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class ExplainedIdentity(JsonRecord):
    """What the object was taken for, where the model decides that before it writes.

    domain: "drawing" or "photograph"; photograph_probability: by the gate. is_parent: whether `name` is a broader word.
    names: the likeliest ones, best first; of a photograph by tower and detector, of a drawing by the network.
    colours: of a photograph, likeliest first; colour: the one that is said, or None.
    """

    domain: str
    photograph_probability: float
    name: str
    probability: float
    is_parent: bool
    names: tuple[NameProbability, ...]
    colours: tuple[NameProbability, ...] = ()
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation(JsonRecord):
    """Why a region was described as it was. The last four are empty unless `Explain.evidence` was asked for.

    views: by t. priors: one per group of tasks that share their views. words: of the caption, in its order.
    labels: task -> those of its result, in their order. controls: in the order in which the language model gets them.
    """

    views: tuple[ExplainedView, ...]
    priors: tuple[UsedPrior, ...]
    words: tuple[ExplainedWord, ...] | None = None
    labels: Mapping[str, tuple[ExplainedLabel, ...]] = field(default_factory=dict)
    controls: tuple[ControlWord, ...] | None = None
    identity: ExplainedIdentity | None = None

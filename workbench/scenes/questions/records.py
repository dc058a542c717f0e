"""What a question about a drawn scene is, and what the right answer to it says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from dynrefer.model.asking import Pointing
from dynrefer.model.conversation import Conversation, GroundedSpan


class Kind(StrEnum):
    """What a question asks for. `larger`, `relation`, `same_colour`, ... compare two objects."""

    NAME = "name"
    COLOUR = "colour"
    SIZE = "size"
    POSITION = "position"
    DESCRIPTION = "description"
    SEVERAL = "several"  # dense referring: what are these regions?
    COUNT = "count"
    EXISTENCE = "existence"
    WHERE = "where"
    LISTING = "listing"  # dense detection: everything there is, with boxes
    LISTING_SOME = "listing_some"
    EXTREME = "extreme"  # the largest, the leftmost, ...
    RELATION = "relation"
    RELATION_YES_NO = "relation_yes_no"
    BESIDE = "beside"  # what is left of the dog?
    LARGER = "larger"
    LARGER_YES_NO = "larger_yes_no"
    SAME_COLOUR = "same_colour"
    SAME_GROUP = "same_group"  # are both animals?
    SAME_OBJECT = "same_object"  # do two regions show one object?
    CHOICE = "choice"  # of given answers
    SETTING = "setting"
    FOLLOW_UP = "follow_up"  # a turn that needs the turns before it
    ABSENT = "absent"  # about an object that is not there
    UNANSWERABLE = "unanswerable"


YES_NO_KINDS = (
    Kind.EXISTENCE,
    Kind.RELATION_YES_NO,
    Kind.LARGER_YES_NO,
    Kind.SAME_COLOUR,
    Kind.SAME_GROUP,
    Kind.SAME_OBJECT,
)  # asked in pairs, of which one is answered yes and the other no


class Says(StrEnum):
    """What of an answer must be right, and with it what `Question.truth` holds."""

    NAME = "name"  # (category,)
    NAMES = "names"  # a category for each region, in their order
    NAME_SET = "name_set"  # every category, in raster order
    COLOUR = "colour"  # (colour,)
    COUNT = "count"  # (digits,)
    SIZE = "size"  # ("small" | "medium" | "large",)
    POSITION = "position"  # ("top left",), ...
    RELATION = "relation"  # ("left of",), ...
    YES_NO = "yes_no"  # ("yes" | "no",)
    DESCRIPTION = "description"  # (category, colour or "", size or "")
    SETTING = "setting"  # (name of the background,)
    CHOICE = "choice"  # (one of the given answers,)
    ABSENCE = "absence"  # (the name that is not there,)
    CANNOT_TELL = "cannot_tell"  # ()


class Forms(StrEnum):
    """Which forms of questions are used. Those of TRAINING alone are ever trained on."""

    TRAINING = "training"
    WORDINGS = "wordings"  # skeletons of training with a wording that training does not know
    SKELETONS = "skeletons"  # sentences of another build than all of training


HeldOut = Literal["wordings", "skeletons", "pairs"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its right answer, and what of the answer matters.

    form: the question's text with slots in the place of what it is about. held_out: what of it training never sees;
    "pairs": the scene's objects are of colour x category pairs that training never draws.
    conversation: as `DynRefer.ask` makes it of its messages and `pointed`: region's id -> what it is pointed at with.
    answer: as a model should write it. spans: the objects that it names, each with its box; a span is exactly the
    object's `spoken_name`. objects: for each span, the index of the scene's object; region_objects: likewise for each
    region of the conversation. same_answers: other wordings of the same answer.
    subject: the object that the question is about, if it is one. says, truth: what must be right, see `Says`.
    """

    kind: Kind
    form: str
    held_out: HeldOut | None
    conversation: Conversation
    pointed: dict[str, Pointing]
    answer: str
    spans: tuple[GroundedSpan, ...]
    objects: tuple[int, ...]
    region_objects: tuple[int, ...]
    subject: int | None
    says: Says
    truth: tuple[str, ...]
    same_answers: tuple[str, ...] = ()

"""What is right and wrong in the description of a labelled photograph, and the metrics over many of them.

A leaf is a category that names a kind of thing; a parent is a broader word ("bird") that a model puts in front of the
leaves where it is unsure (`Label.level` "parent"). Measures of leaves skip it. "object", the broadest, is neither a
true parent nor a false noun. Shapes: R = boxes, L = leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.evidence.names import ROOT
from dynrefer.model.types import Label, RegionDescription
from dynrefer.workbench.data.photographs import LabelledBox
from dynrefer.workbench.evaluation.metrics.caption_claims import (
    any_same,
    colours_in,
    first_name,
    named_in,
    other_claims,
    same_name,
    words_of,
)
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, mean, proportion

PARENT = "parent"  # the `Label.level` of a broader word
TOP = 5
CONFIDENT = 0.8  # a wrong name with a higher probability is counted as confident and wrong

Ancestors = Callable[[str], Collection[str]]  # a name -> every broader word for it


@dataclass(frozen=True)
class Verdict:
    """What is right in the description of one box.

    parent: the broader word in front of the leaves, if there is one. noun: what the caption says that the box shows;
    None if it is no name that the model knows. name, probability: the caption's own, else the first item of the
    categories. leaf_probability: of the first leaf, 0 without leaves. colours: those that are said; colour_right:
    whether all of them are among the true ones, None where none is said or the true ones are not known. others: the
    caption's words beyond noun, colours and what the labels say of the scene.
    """

    top1: bool
    top5: bool
    parent: str | None
    top1_or_parent: bool
    noun: str | None
    names_it: bool
    caption_true: bool
    false_noun: bool
    name: str
    probability: float
    confident_wrong: bool
    leaf_probability: float
    colours: tuple[str, ...]
    colours_known: bool
    colour_right: bool | None
    others: tuple[str, ...]
    words: int

    @property
    def backs_off(self) -> bool:
        """Whether there is a parent."""
        return self.parent is not None


def words_as_ancestors(name: str) -> tuple[str, ...]:
    """The broader words that a name itself ends in ("bear" for "brown bear"); a stand-in for a hierarchy of names."""
    words = words_of(name)
    return tuple(" ".join(words[place:]) for place in range(1, len(words)))


def ancestors_among(broader: Iterable[tuple[str, Collection[str]]]) -> Ancestors:
    """The broader words of a model's own names and synonyms, (name, its broader words); of a plural, those of its
    singular. A name that is not among them has none."""
    known = list(broader)

    @cache
    def ancestors(name: str) -> frozenset[str]:
        return frozenset(word for each, words in known if same_name(name, each) for word in words)

    return ancestors


def without_kinds(names: Iterable[str], ancestors: Ancestors) -> tuple[str, ...]:
    """The names, and those that name their kind once more without it: "bittern" beside "bittern bird", as ImageNet's
    class names tell words apart that mean several things."""
    found = list(names)
    for name in tuple(found):
        *first, last = words_of(name) or [""]
        if first and any_same(last, ancestors(" ".join(first))):
            found.append(" ".join(first))
    return tuple(dict.fromkeys(found))


def judge(
    truth: LabelledBox,
    found: RegionDescription,
    known_names: Collection[str],
    ancestors: Ancestors = words_as_ancestors,
) -> Verdict:
    """Compare a description, with caption, tags and categories, with what is true of the box.

    known_names: of the model's categories; the noun of a caption without a name of its own is the first of them.
    ancestors: the model's broader words for a name, for boxes whose labels list no parents.
    """

    truth = replace(truth, accepted=without_kinds(truth.accepted, ancestors))

    def broader(word: str) -> bool:
        if word == ROOT:
            return False  # true of all, so that saying it is no merit
        if truth.parents:
            return any_same(word, truth.parents)
        return any(any_same(word, ancestors(name)) for name in truth.accepted)

    def true(word: str) -> bool:
        return any_same(word, truth.accepted) or broader(word)

    categories = found.categories or ()
    leaves = [label for label in categories if label.level != PARENT]
    parent = categories[0].name if categories and categories[0].level == PARENT else None
    right = [any_same(label.name, truth.accepted) for label in leaves[:TOP]]
    top1 = bool(right) and right[0]

    text, name, probability = _said(found)
    noun = name_of_caption(found, known_names)
    names_it = named_in(text, truth.accepted)
    noun_true = names_it if noun is None else true(noun)

    first = [(label.name, label.probability) for label in categories[:1]]
    claims = [claim for claim in ((name, probability), *first) if claim[0]]
    nouns = [each for each in (noun, *(label.name for label in categories[:1])) if each]
    colours = _colours(text, found.tags or (), nouns)
    return Verdict(
        top1=top1,
        top5=any(right),
        parent=parent,
        top1_or_parent=top1 or (parent is not None and true(parent)),
        noun=noun,
        names_it=names_it,
        caption_true=names_it or noun_true,
        false_noun=not noun_true and noun != ROOT,
        name=name,
        probability=probability,
        confident_wrong=any(value > CONFIDENT and word != ROOT and not true(word) for word, value in claims),
        leaf_probability=leaves[0].probability if leaves else 0.0,
        colours=colours,
        colours_known=bool(truth.colours),
        colour_right=set(colours) <= set(truth.colours) if colours and truth.colours else None,
        others=other_claims(text, (*nouns, *truth.accepted, *truth.scene)),
        words=len(text.split()),
    )


def name_of_caption(found: RegionDescription, known_names: Collection[str]) -> str | None:
    """What the caption says that the box shows: its name, else the first of the model's names in its text."""
    if found.caption is None:
        return None
    return found.caption.name or first_name(found.caption.text, known_names)


def _colours(text: str, tags: Iterable[Label], nouns: Sequence[str]) -> tuple[str, ...]:
    """The colours that caption and tags say, each once; not as part of a noun."""
    return tuple(
        dict.fromkeys(word for said in (text, *(tag.name for tag in tags)) for word in colours_in(said, nouns))
    )


def _said(found: RegionDescription) -> tuple[str, str, float]:
    """The caption's text, and the name and probability that stand for the whole description."""
    caption, first = found.caption, (found.categories or (Label("", 0.0, 0.0),))[0]
    text = caption.text if caption else ""
    if caption and caption.name and caption.probability is not None:
        return text, caption.name, caption.probability
    return text, first.name, first.probability


def photograph_metrics(truths: Sequence[LabelledBox], verdicts: Sequence[Verdict]) -> dict[str, Estimate]:
    """Name of the metric -> its estimate over R boxes. docs/evaluation.md defines them; an estimate is empty where no
    box has what it is about."""

    def rate(hits: Sequence[bool]) -> Estimate:
        return proportion(np.array(hits, dtype=np.bool_)) if hits else Estimate()

    with_colours = [each for each in verdicts if each.colours_known]
    return {
        "top1": rate([each.top1 for each in verdicts]),
        "top5": rate([each.top5 for each in verdicts]),
        "mean_per_name": _mean_per_name(truths, verdicts),
        "top1_or_parent": rate([each.top1_or_parent for each in verdicts]),
        "backs_off": rate([each.backs_off for each in verdicts]),
        "caption_names_it": rate([each.names_it for each in verdicts]),
        "caption_true": rate([each.caption_true for each in verdicts]),
        "false_noun": rate([each.false_noun for each in verdicts]),
        "colour_said": rate([bool(each.colours) for each in with_colours]),
        "colour_right": rate([each.colour_right for each in verdicts if each.colour_right is not None]),
        "other_claims": rate([bool(each.others) for each in verdicts]),
        "confident_wrong": rate([each.confident_wrong for each in verdicts]),
        "caption_words": mean(np.array([each.words for each in verdicts], dtype=np.float64)),
    }


def _mean_per_name(truths: Sequence[LabelledBox], verdicts: Sequence[Verdict]) -> Estimate:
    """The mean over kinds of things of their top-1 accuracy; boxes with the same accepted names are of one kind."""
    kinds: dict[tuple[str, ...], list[bool]] = {}
    for truth, each in zip(truths, verdicts, strict=True):
        kinds.setdefault(truth.accepted, []).append(each.top1)
    return mean(np.array([np.mean(hits) for hits in kinds.values()]))


def name_calibration(verdicts: Sequence[Verdict]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The first leaves' probabilities and whether they are right, both (R,)."""
    probabilities = np.array([each.leaf_probability for each in verdicts], dtype=np.float64)
    return probabilities, np.array([each.top1 for each in verdicts], dtype=np.bool_)


def counted_parents(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Parent -> number of boxes with it, most frequent first: "object" is true of everything and says nothing."""
    return _counted(each.parent for each in verdicts if each.parent is not None)


def counted_claims(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Words of captions beyond noun and colours -> number of captions with them, most frequent first."""
    return _counted(word for each in verdicts for word in dict.fromkeys(each.others))


def _counted(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))

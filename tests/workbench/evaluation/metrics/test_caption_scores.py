"""CIDEr-D and the stated relation, on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores, relation_hits, stated_relation

RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")


def test_cider_of_a_perfect_caption_is_ten() -> None:
    captions = ["a red dog on grass", "the blue cup in water"]
    assert cider_scores(captions, [[text] for text in captions]) == pytest.approx([10.0, 10.0])


def test_cider_by_hand() -> None:
    # Two regions: a phrase in one region's references, or in none, weighs log 2; a phrase in both weighs 0.
    # "p q" against "p r": of the unigrams p agrees, 1 / (sqrt 2 * sqrt 2) = 1/2; of the bigrams none does;
    # there are no longer ones. The mean over four lengths is 1/8; times ten.
    assert cider_scores(["p q", "x"], [["p r"], ["x"]])[0] == pytest.approx(10 / 8)


def test_cider_takes_the_mean_over_references_and_punishes_length() -> None:
    one = cider_scores(["p q", "x"], [["p r", "s t"], ["x"]])[0]
    assert one == pytest.approx(10 / 16)
    # The reference implementation counts length in bigrams: 1 against 4, sigma 6. Unigrams: 1 / sqrt(2 * 5).
    longer = cider_scores(["p q", "x"], [["p r s t u"], ["x"]])[0]
    assert longer == pytest.approx(10 / 4 / math.sqrt(10) * math.exp(-9 / 72))


def test_cider_refuses_lists_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="1 captions but 2 sets"):
        cider_scores(["a"], [["a"], ["b"]])


@pytest.mark.parametrize(
    ("caption", "relation"),
    [
        ("a dog to the left of another object on grass", "left of"),
        ("a dog In Front Of another object", "in front of"),
        ("in the sky a kite above another object", "above"),
        ("a dog on a leftover of a cake", None),
        ("a dog", None),
        ("a dog left of and behind another object", None),
        ("a dog behind another object, behind another object", "behind"),
    ],
)
def test_stated_relation(caption: str, relation: str | None) -> None:
    assert stated_relation(caption, RELATIONS) == relation


def test_the_longer_phrase_is_what_is_said() -> None:
    assert stated_relation("a cup on top of a table", ("on", "on top of")) == "on top of"
    assert stated_relation("a cup on a table", ("on", "on top of")) == "on"


def test_relation_hits() -> None:
    hits = relation_hits(["x above y", "x below y", "x"], ["above", "above", "above"], RELATIONS)
    assert hits.dtype == np.bool_ and hits.tolist() == [True, False, False]

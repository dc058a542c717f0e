"""What corrections say in the words of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dynrefer.model.types import Task
from dynrefer.model.vocabulary import Attribute, Vocabulary
from dynrefer.workbench.data.corrections import Correction
from dynrefer.workbench.training.corrections.words import (
    KnownWords,
    enlarged,
    judge,
    unknown_sentence,
    unknown_words,
)

VOCABULARY = Vocabulary(
    tags=("dog", "red", "left of"),
    attributes=(
        Attribute("color:red", "color", ("red",), "is"),
        Attribute("color:blue", "color", ("blue", "navy"), "is"),
        Attribute("hair:red", "hair", ("red",), "has"),
    ),
    categories=("dog", "hot dog", "cat"),
)
KNOWN = KnownWords(VOCABULARY)


def corrected(**said: Any) -> Correction:
    lists = {name: tuple(said[name]) if name in said else None for name in ("tags", "attributes")}
    return Correction("a", Path("a"), "0", (0, 0, 1, 1), None, said.get("category"), where="line 1", **lists)  # type: ignore[arg-type]


def test_words_are_known_whatever_their_case_and_attributes_by_their_value() -> None:
    assert KNOWN.place(Task.CATEGORIES, "Hot_Dog") == 1
    assert KNOWN.place(Task.ATTRIBUTES, "color:Blue") == 1
    assert KNOWN.place(Task.ATTRIBUTES, "navy") == 1
    assert KNOWN.place(Task.ATTRIBUTES, "red") is None  # two attributes have it
    assert KNOWN.place(Task.TAGS, "cow") is None


def test_a_category_is_one_of_all_and_what_was_not_judged_is_unknown() -> None:
    every = [corrected(category="cat"), corrected(tags=[]), corrected(category="cow")]
    found = judge(every, KNOWN, every)
    assert found.categories.tolist() == [[0, 0, 1], [-1, -1, -1], [-1, -1, -1]]
    assert found.rows(Task.CATEGORIES).tolist() == [0]


def test_a_list_judges_the_words_that_any_correction_says() -> None:
    every = [corrected(tags=["dog"]), corrected(tags=["red"]), corrected(tags=[]), corrected(category="dog")]
    found = judge(every, KNOWN, every)
    assert found.tags.tolist() == [[1, 0, -1], [0, 1, -1], [0, 0, -1], [-1, -1, -1]]
    assert judge(every[:1], KNOWN, every[:1]).tags.tolist() == [[1, -1, -1]]


def test_unknown_words_are_counted_by_region() -> None:
    every = [corrected(category="cow", tags=["Cow", "cow", "dog"]), corrected(category="Cow")]
    found = unknown_words(every, KNOWN)
    assert found[Task.CATEGORIES] == {"cow": 2} and found[Task.TAGS] == {"cow": 1}
    assert unknown_sentence(found) == "categories: cow (2); tags: cow (1)"
    assert unknown_sentence(unknown_words([corrected(category="dog")], KNOWN)) is None


def test_new_words_with_examples_enough_come_last_and_the_rest_is_told() -> None:
    every = [corrected(category="cow", attributes=["hair:green", "shiny"])] * 5 + [corrected(category="yak")]
    larger, told = enlarged(VOCABULARY, unknown_words(every, KNOWN))
    assert larger.categories == ("dog", "hot dog", "cat", "cow") and larger.tags == VOCABULARY.tags
    assert larger.attributes == (*VOCABULARY.attributes, Attribute("hair:green", "hair", ("green",), "has"))
    assert told == [
        "'yak' of the categories has 1 training regions of 5",
        "'shiny' of the attributes is not of the form \"type:value\"",
    ]
    assert np.flatnonzero(judge(every, KnownWords(larger), every).categories[0] == 1).tolist() == [3]

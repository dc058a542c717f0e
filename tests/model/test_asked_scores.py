"""Scores of names, of what finder and describer say, and who gets an object that several names want."""

from dataclasses import replace

import numpy as np

from dynrefer.model.asked_scores import Looks, name_scores, one_name_per_object, words_to_look
from dynrefer.model.finding import AskedName, Candidates, FoundRegion
from dynrefer.model.request_vocabulary import UnknownWord
from dynrefer.model.types import Label, RegionDescription, Task

NAN = np.nan
BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 60, 60]], np.float32)
NO_LOOKS = Looks(np.empty(0, np.int64), ())


def found(scores: dict[str, list[float]], kin: list[list[bool]] | None = None) -> Candidates:
    table = np.array(list(scores.values()), np.float32).T
    known = None if kin is None else np.array(kin)
    return Candidates(
        BOXES, np.array([0.9, 0.8, 0.7], np.float32), tuple(scores), table, np.nan_to_num(table).max(axis=0), kin=known
    )


def described(**probabilities: float) -> RegionDescription:
    labels = tuple(Label(name, 0.0, value) for name, value in probabilities.items())
    return RegionDescription((0, 0, 1, 1), clipped=False, plan=None, plans={}, results={Task.CATEGORIES: labels})


def test_the_best_of_name_and_synonyms_counts() -> None:
    said = found({"cup": [0.2, 0.9, 0.0], "mug": [0.6, 0.1, NAN]})
    np.testing.assert_allclose(name_scores(AskedName("cup", ("mug",)), said, NO_LOOKS), [0.6, 0.9, 0.0], rtol=1e-6)


def test_a_word_that_is_not_meant_takes_its_object_and_boxes_beside_it() -> None:
    said = found({"cup": [0.6, 0.5, 0.5], "glass": [0.7, 0.0, 0.4]})
    scores = name_scores(AskedName("cup", excluded=("glass",)), said, NO_LOOKS)
    np.testing.assert_allclose(scores, [0, 0, 0.5], rtol=1e-6)  # the second box is the first object's too


def test_of_a_kind_of_the_name_more_has_to_be_left_but_not_of_other_words() -> None:
    kin = [[True, True, False], [True, True, False], [False, False, True]]
    said = found({"animal": [0.9, 0.0, 0.9], "pig": [0.85, 0.0, 0.1], "statue": [0.0, 0.0, 0.8]}, kin)
    scores = name_scores(AskedName("animal", excluded=("pig", "statue")), said, NO_LOOKS)
    np.testing.assert_allclose(scores, [0, 0, 0.9], rtol=1e-6)


def test_the_describer_speaks_where_the_finder_cannot() -> None:
    said = found({"spaniel": [NAN, NAN, NAN], "cat": [0.1, 0.1, 0.1]})
    names = (AskedName("spaniel"), AskedName("cat"))
    assert words_to_look(names, said) == ("spaniel",)
    looks = Looks(np.array([0, 2]), (described(spaniel=0.4), described(spaniel=NAN)))
    scores = name_scores(names[0], said, looks)
    np.testing.assert_allclose(scores, [np.sqrt(0.4 * 0.9), 0, 0], rtol=1e-6)
    nobody = replace(said, unknown=(UnknownWord("spaniel", ()),))
    assert words_to_look(names, nobody) == ()


def test_an_object_is_the_best_names_unless_one_is_a_kind_of_the_other() -> None:
    names = (AskedName("dog"), AskedName("cat"), AskedName("animal"))
    regions = [
        FoundRegion((0, 0, 10, 10), "cat", 0.5, 0.5, 0),
        FoundRegion((0, 0, 10, 11), "dog", 0.8, 0.8, 1),
        FoundRegion((0, 0, 10, 10), "animal", 0.7, 0.7, 0),
        FoundRegion((50, 50, 60, 60), "cat", 0.4, 0.4, 2),
    ]
    kin = [[True, False, True], [False, True, True], [True, True, True]]
    said = found({name.name: [0.5, 0.5, 0.5] for name in names}, kin)
    expected = [("dog", 1), ("animal", 0), ("cat", 2)]
    for order in (regions, regions[::-1]):
        assert [(each.label, each.candidate) for each in one_name_per_object(order, names, said)] == expected

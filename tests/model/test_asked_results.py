"""Words of a request, answered by a model that knows the words of its lists, and nouns by their place beside them."""

import numpy as np
import pytest

from dynrefer.model.asked_results import asked_identity, asked_result
from dynrefer.model.asked_words import REMEMBERED
from dynrefer.model.evidence.evidence import of_drawing
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.tasks.scoring import Label
from dynrefer.model.vocabulary_entries import read_vocabulary


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("embedded", device="cpu", dtype="float32")


def drawn(loaded: LoadedModel, **probabilities: float) -> Identity:
    """A drawing whose categories have these probabilities."""
    row = np.zeros(len(loaded.vocabulary.categories), np.float32)
    for name, value in probabilities.items():
        row[loaded.vocabulary.categories.index(name)] = value
    return of_drawing(row, loaded.vocabulary.categories)


def photographed(loaded: LoadedModel, name: str, probability: float) -> Identity:
    assert loaded.evidence is not None
    names = np.zeros(len(loaded.evidence.names.names), np.float32)
    names[loaded.evidence.names.index(name)] = probability
    return Identity(name, probability, np.zeros(len(loaded.vocabulary.categories), np.float32), False, True, 1.0, names)


def categories(loaded: LoadedModel, words: list[object], identity: Identity, top_k: int = 10) -> tuple[Label, ...]:
    asked = loaded.asked_words.of(read_vocabulary({"categories": words}))["categories"]
    return asked_result(loaded, "categories", asked, ({}, identity), None, None, top_k)


def test_probabilities_are_not_shared_out_among_the_words(loaded: LoadedModel) -> None:
    identity = drawn(loaded, cat=0.9, dog=0.06)
    for words in (["dog"], ["dog", "car"], ["car", "animal", "dog"]):
        found = {each.name: each.probability for each in categories(loaded, list(words), identity)}
        assert found["dog"] == pytest.approx(0.06, abs=1e-4)
    assert found["animal"] >= 0.96


def test_scores_are_those_of_the_models_own_words(loaded: LoadedModel) -> None:
    """A threshold means the same for a photograph's own names and for the client's."""
    from dynrefer.model.tasks.categories import CategoriesTask

    identity = photographed(loaded, "cat", 0.8)
    own = CategoriesTask().finish(loaded, np.zeros(125, np.float32), identity, None, 1)
    assert categories(loaded, ["Cat"], identity)[0].score == pytest.approx(own[0].score, abs=1e-6)


def test_a_tag_of_one_half_has_the_score_of_the_threshold(loaded: LoadedModel) -> None:
    asked = loaded.asked_words.of(read_vocabulary({"tags": ["cat", "dog"]}))["tags"]
    threshold = loaded.network.config.thresholds["tags"]
    found = asked_result(loaded, "tags", asked, ({}, drawn(loaded, cat=0.501, dog=0.499)), None, threshold, 10)
    assert [each.name for each in found] == ["cat"]


def test_the_best_synonym_and_no_unknown_one_counts(loaded: LoadedModel) -> None:
    entry = {"name": "moggy thing", "synonyms": ["blorf", "cat"]}
    (found,) = categories(loaded, [entry], drawn(loaded, cat=0.9))
    assert (found.name, found.probability) == ("moggy thing", pytest.approx(0.9))
    assert not loaded.asked_words.unknown(read_vocabulary({"categories": [{"name": "blorf", "synonyms": ["cat"]}]}))


def test_unknown_words_come_once_and_in_order(loaded: LoadedModel) -> None:
    given = {"tags": ["blorf", "cet"], "categories": ["cat", "zzyzx", "blorf"], "attributes": ["color:bleu/azul"]}
    found = loaded.asked_words.unknown(read_vocabulary(given))
    assert [each.name for each in found if each.name != "cet"] == ["zzyzx", "blorf", "color:bleu"]
    assert "blue" in next(each for each in found if each.name == "color:bleu").nearest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["animal", "Cat"], "Cat"),  # the most specific
        (["animal"], "animal"),
        (["dog", "car"], "cat"),  # none is likely: the model's own
        (["blorf"], "cat"),
        ([{"name": "Mieze", "synonyms": ["cat"]}], "Mieze"),
    ],
)
def test_what_a_caption_says(loaded: LoadedModel, words: list[object], said: str) -> None:
    for identity in (drawn(loaded, cat=0.9), photographed(loaded, "cat", 0.9)):
        found = asked_identity(loaded, read_vocabulary({"categories": words}), identity)
        assert found is not None and found.name == said and found.probability == pytest.approx(0.9, abs=1e-3)


def test_other_lists_leave_the_caption_alone(loaded: LoadedModel) -> None:
    identity = drawn(loaded, cat=0.9)
    assert asked_identity(loaded, read_vocabulary({"tags": ["animal"]}), identity) is identity
    assert asked_identity(loaded, None, identity) is identity and asked_identity(loaded, None, None) is None


def test_a_fitted_calibration(loaded: LoadedModel) -> None:
    from dataclasses import replace

    vocabulary = replace(read_vocabulary({"categories": ["cat", "dog"]}), calibration=(("categories", 0.0, -1.0),))
    asked = loaded.asked_words.of(vocabulary)["categories"]
    found = asked_result(loaded, "categories", asked, ({}, drawn(loaded, cat=0.9)), None, None, 10)
    assert [each.probability for each in found] == pytest.approx([np.exp(-1.0)] * 2)


def test_what_is_remembered_is_bounded(loaded: LoadedModel) -> None:
    for i in range(REMEMBERED + 5):
        loaded.asked_words.of(read_vocabulary({"tags": [f"cat {i}"]}))
    assert len(loaded.asked_words._known) == REMEMBERED

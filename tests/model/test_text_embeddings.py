"""Words of requests, scored by the text tower: as a model's own words, whatever else is in the batch, each once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from dynrefer.model import continuous
from dynrefer.model.asked_words import AskedWords
from dynrefer.model.batch import RawOutputs, run_batch
from dynrefer.model.cache import CacheStats, FeatureCache
from dynrefer.model.errors import OutputError, StoppedError
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import PreparedRegion
from dynrefer.model.request_vocabulary import RequestVocabulary
from dynrefer.model.text_embeddings import SIZES, embed_each, padded
from dynrefer.model.types import RegionQuery, Task
from dynrefer.model.vocabulary import (
    OFFICIAL_PROMPTS,
    Attribute,
    PromptTemplates,
    Vocabulary,
    embed_texts,
    embed_vocabulary,
)
from dynrefer.model.vocabulary_entries import read_vocabulary
from tests.model.test_batch import BOXES, SCENE

NAMES = ("Red Fox", "snowman", "fire truck", "teapot")
ATTRIBUTES = ("color:red/crimson", "coat:woolly")
PETS = read_vocabulary({"categories": list(NAMES), "attributes": list(ATTRIBUTES), "tags": ["fox", "3D", "dog"]})


def open_model() -> LoadedModel:
    """One whose text tower is asked about any word, and whose language model writes its nouns itself."""
    loaded = load_model("embedded", device="cpu", dtype="float32", evidence=False)
    loaded.network.config.noun_placeholder = None
    return loaded


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return open_model()


def prepared(loaded: LoadedModel, queries: Sequence[RegionQuery]) -> list[PreparedRegion]:
    return DynRefer(loaded).prepare(upright_pixels(SCENE), queries)


def run(loaded: LoadedModel, queries: Sequence[RegionQuery], cache: FeatureCache | None = None) -> list[RawOutputs]:
    inputs = [each for region in prepared(loaded, queries) for each in region.inputs]
    return run_batch(loaded, inputs, cache or FeatureCache(0)).outputs


def words(count: int, start: int = 0) -> RequestVocabulary:
    return read_vocabulary(
        {task: [f"word {i}" for i in range(start, start + count)] for task in ("categories", "tags")}
    )


def test_as_a_model_whose_own_words_they_are(loaded: LoadedModel) -> None:
    attributes = (
        Attribute("color:red", "color", ("red", "crimson"), "is"),
        Attribute("coat:woolly", "coat", ("woolly",), "is"),
    )
    own = Vocabulary(("fox", "3D", "dog"), attributes, NAMES)
    texts = embed_vocabulary(loaded.network, loaded.text_tokenizer, own)
    theirs = DynRefer(replace(loaded, vocabulary=own, texts=texts)).describe(SCENE, BOXES, thresholds={Task.TAGS: 0.0})
    ours = DynRefer(loaded).describe(SCENE, BOXES, vocabulary=PETS, thresholds={Task.TAGS: 0.0})
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.unknown_words == ()
        for task in (Task.CATEGORIES, Task.ATTRIBUTES, Task.TAGS):
            for label, expected in zip(mine.results[task], other.results[task], strict=True):
                assert label.name == expected.name
                assert label.score == pytest.approx(expected.score, abs=1e-5)
                assert label.probability == pytest.approx(expected.probability, abs=1e-5)
        assert mine.caption == other.caption  # the request's tags control it, as the model's own would


def test_the_best_synonym_counts_and_the_name_is_the_clients(loaded: LoadedModel) -> None:
    model = DynRefer(loaded)
    (each,) = model.describe(SCENE, BOXES[:1], "categories", vocabulary={"categories": ["thing", "snowman", "fox"]})
    score = {label.name: label.score for label in each.categories or ()}
    entry = {"name": "thing", "synonyms": ["Snowman", "fox"]}
    (one,) = model.describe(SCENE, BOXES[:1], "categories", vocabulary={"categories": [entry, "dog"]})
    assert {label.name: label.score for label in one.categories or ()}["thing"] == max(score.values())


def test_thresholds_of_words_and_of_the_request(loaded: LoadedModel) -> None:
    model = DynRefer(loaded)
    entries = [{"name": "a", "threshold": -1e9}, {"name": "b", "threshold": 1e9}, "c"]
    vocabulary = {"categories": entries, "tags": entries}

    def named(**thresholds: float) -> list[list[str]]:
        (found,) = model.describe(
            SCENE,
            BOXES[:1],
            ("categories", "tags"),
            vocabulary=vocabulary,
            thresholds={Task(k): v for k, v in thresholds.items()},
        )
        return [sorted(label.name for label in found.results[task]) for task in ("categories", "tags")]

    assert named()[0] == ["a", "c"]  # no default for categories
    assert "a" in named()[1] and "b" not in named()[1]
    assert named(tags=-1.0, categories=1e9) == [[], ["a", "b", "c"]]


def test_only_what_is_asked_is_computed(loaded: LoadedModel) -> None:
    (found,) = run(
        loaded, [RegionQuery(BOXES[0], (Task.CATEGORIES, Task.CAPTION), views=(0.0, 0.5, 1.0), vocabulary=PETS)]
    )
    assert set(found) == {"caption"} and set(found.asked) == {"categories", "tags"}
    (found,) = run(loaded, [RegionQuery(BOXES[0], (Task.TAGS,), vocabulary=read_vocabulary({"categories": ["a"]}))])
    assert set(found) == {"tags"} and not found.asked


def test_a_region_does_not_depend_on_what_others_are_asked(loaded: LoadedModel) -> None:
    """To the last bit, where kernels round every row alike: alone, beside regions with the same words, with as many
    others, and with more than are scored together."""
    sizes = (1, 7, 16, 17, 30, 1500)
    asked = [words(size, 10_000 * index) for index, size in enumerate(sizes)]
    queries = [RegionQuery(box, vocabulary=each) for each in asked for box in BOXES[:2]]
    queries += [
        RegionQuery(BOXES[2], vocabulary=words(20, 500)),
        RegionQuery(BOXES[2]),
        RegionQuery(BOXES[1], vocabulary=PETS),
    ]
    together = run(loaded, queries)
    for query, found in zip(queries, together, strict=True):
        (alone,) = run(loaded, [query])
        assert set(alone.asked) == set(found.asked) and set(alone) == set(found)
        for task, logits in found.asked.items():
            np.testing.assert_allclose(logits, alone.asked[task], atol=1e-6)
            if loaded.batch_invariant:
                assert np.array_equal(logits, alone.asked[task]), (task, len(logits))


@pytest.mark.parametrize("evidence", [False, True])
def test_regions_that_join_at_any_time(loaded: LoadedModel, evidence: bool) -> None:
    if evidence:
        loaded = load_model("embedded", device="cpu", dtype="float32")
    queries = [
        RegionQuery(BOXES[0], vocabulary=PETS),
        RegionQuery(BOXES[1]),
        RegionQuery(BOXES[2], vocabulary=words(40)),
    ]
    model, whole = DynRefer(loaded, batching="continuous"), DynRefer(loaded)
    regions = prepared(loaded, queries)
    batch = model.continuous()
    assert isinstance(batch, continuous.ContinuousDescription)
    tickets = {ticket: i for i, ticket in enumerate(batch.admit(regions))}
    while tickets:
        for ticket, output in batch.advance():
            index = tickets.pop(ticket)
            expected = whole.finish(regions[index], whole.run([regions[index]])[0])
            found = model.finish(regions[index], output)
            assert found.unknown_words == expected.unknown_words
            assert found.caption and expected.caption and found.caption.text == expected.caption.text
            for task in (Task.TAGS, Task.ATTRIBUTES, Task.CATEGORIES):
                assert [each.name for each in found.results[task]] == [each.name for each in expected.results[task]]


def test_texts_are_embedded_once(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(model: LoadedModel, texts: Sequence[str], stop: None) -> torch.Tensor:
        seen.extend(texts)
        return embed_each(model, texts, stop)

    monkeypatch.setattr("dynrefer.model.text_embeddings.embed_each", noted)
    cache = FeatureCache(0)
    first, more = {"categories": ["a", "b"]}, {"categories": ["b", "c"]}
    queries = [RegionQuery(box, (Task.CATEGORIES,), vocabulary=read_vocabulary(first)) for box in BOXES]
    run(loaded, queries, cache)
    assert sorted(seen) == ["the a", "the b"]  # once for three regions
    assert cache.texts.stats.misses == 2 and cache.texts.stats.entries == 2 and cache.vocabularies.stats.entries == 1
    run(loaded, [*queries, RegionQuery(BOXES[0], (Task.CATEGORIES,), vocabulary=read_vocabulary(more))], cache)
    assert sorted(seen) == ["the a", "the b", "the c"]
    assert cache.texts.stats.hits == 1 and cache.vocabularies.stats.hits == 1
    nothing = FeatureCache(0, 0)
    run(loaded, queries, nothing)
    assert len(seen) == 5 and nothing.texts.stats == CacheStats()


def test_the_cache_is_bounded(loaded: LoadedModel) -> None:
    cache = FeatureCache(0, 1 << 16)
    for start in range(0, 1000, 50):
        run(loaded, [RegionQuery(BOXES[0], (Task.TAGS,), vocabulary=words(50, start))], cache)
        assert cache.texts.stats.bytes <= 1 << 15 and cache.vocabularies.stats.bytes <= 1 << 15
    assert 10 < cache.texts.stats.entries < 1000


def test_an_embedding_depends_on_its_own_text_alone(loaded: LoadedModel) -> None:
    texts = ["the fox", "fox", "the very large red fox on a small table", *(f"the number {i}" for i in range(300))]
    together = embed_each(loaded, texts)
    expected = embed_texts(loaded.network.text, loaded.text_tokenizer, texts)
    assert torch.allclose(together, expected, atol=1e-5)
    alone = torch.cat([embed_each(loaded, [text]) for text in texts[:10]])
    assert (
        torch.equal(together[:10], alone) if loaded.batch_invariant else torch.allclose(together[:10], alone, atol=1e-6)
    )


def test_work_that_nobody_waits_for_stops(loaded: LoadedModel) -> None:
    with pytest.raises(StoppedError):
        embed_each(loaded, ["a"], lambda: True)


def test_not_a_number_is_noticed(loaded: LoadedModel) -> None:
    model = DynRefer(loaded)
    (region,) = prepared(loaded, [RegionQuery(BOXES[0], (Task.TAGS,), vocabulary=PETS)])
    (output,) = model.run([region])
    output.outputs[0].asked["tags"][1] = np.nan  # type: ignore[index]
    with pytest.raises(OutputError, match="NaN"):
        model.finish(region, output)


def test_sizes() -> None:
    assert [padded(count) for count in (1, 16, 17, 50, 1024, 1025)] == [16, 16, 32, 64, 1024, 1040]
    assert list(SIZES) == sorted(SIZES)


def test_prompts_are_the_configurations(loaded: LoadedModel) -> None:
    prompts = PromptTemplates(category="a photo of a {name}", tag="{name}!", attribute_is=("{value}", "{type} {value}"))
    asked = AskedWords(loaded.vocabulary, prompts).of(PETS)
    assert asked["categories"].prompts[0] == "a photo of a red fox" and asked["tags"].prompts[1] == "3D!"
    assert asked["attributes"].prompts[:4] == ("red", "color red", "crimson", "color crimson")


def test_a_type_has_the_template_of_the_models_own(loaded: LoadedModel) -> None:
    own = Vocabulary((), (Attribute("hair color:black", "hair color", ("black",), "has"),), ())
    entries = ["hair color:red", {"name": "hair color:grey", "template": "is"}, "color:red"]
    asked = AskedWords(own, OFFICIAL_PROMPTS).of(read_vocabulary({"attributes": entries}))["attributes"]
    assert asked.prompts == (
        "the red hair color",
        "the  has red hair color",
        "the grey",
        "the  is grey",
        "the red",
        "the  is red",
    )

"""Explanations, with the embedded model: views, words, labels, control words, and that nothing else changes."""

from __future__ import annotations

import base64
import io

import imagehash
import numpy as np
import pytest
from PIL import Image

from dynrefer.model import DynRefer, Explain, RegionDescription, RegionQuery, Task, ViewPolicy, ViewsError, prepare
from dynrefer.model.explanation import Explanation
from dynrefer.model.images import upright_pixels
from tests.model.test_preparation import SPEC
from tests.model.test_text_embeddings import open_model
from tests.repository import DOCS

SCENE, PHOTOGRAPH = DOCS / "scene.png", DOCS / "chelsea.jpg"
SNOWMAN, CAT = (41.0, 2.0, 117.0, 82.0), (100.0, 20.0, 300.0, 280.0)


@pytest.fixture(scope="module")
def model() -> DynRefer:
    return DynRefer.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def snowman(model: DynRefer) -> RegionDescription:
    (found,) = model.describe(SCENE, [SNOWMAN], explain=Explain(thumbnails=True), controls=["street"])
    return found


@pytest.fixture(scope="module")
def opened() -> DynRefer:
    return DynRefer(open_model())


def why(found: RegionDescription) -> Explanation:
    assert found.explanation is not None
    return found.explanation


def test_every_candidate_is_listed_with_the_choice_of_the_plan(snowman: RegionDescription) -> None:
    views = why(snowman).views
    assert [view.t for view in views] == [step / 10 for step in range(11)]
    assert snowman.plan is not None
    assert {view.t for view in views if view.chosen} == {view.t for view in snowman.plan.views}
    assert views[0].distance == 0 and views[0].gain is None and views[0].box == SNOWMAN
    region = imagehash.hex_to_hash(views[0].hash)
    for view, candidate in zip(views[1:], snowman.plan.candidates, strict=True):
        assert (view.t, view.box, view.distance) == (candidate.t, candidate.box, candidate.distance)
        assert region - imagehash.hex_to_hash(view.hash) == view.distance
        assert view.gain == view.distance / view.t and view.hash == candidate.hash
    assert why(snowman).priors[0].policy == "image_prior"


def test_a_thumbnail_is_what_the_network_sees(model: DynRefer, snowman: RegionDescription) -> None:
    view = why(snowman).views[0]
    assert view.thumbnail is not None
    with Image.open(io.BytesIO(base64.b64decode(view.thumbnail))) as opened:
        assert opened.format == "WEBP" and opened.size == (model.card.view_size,) * 2
        seen = np.asarray(opened.convert("RGB"), dtype=np.float64)
    (region,) = model.prepare(upright_pixels(SCENE), [RegionQuery(SNOWMAN)])
    assert np.abs(seen - region.inputs[0].views.images[0].transpose(1, 2, 0)).mean() < 12  # lossy


def test_words_have_spans_supports_and_the_view_that_carried_them(snowman: RegionDescription) -> None:
    assert snowman.caption is not None
    words = {word.text: word for word in why(snowman).words or ()}
    assert all(snowman.caption.text[word.start : word.end] == text for text, word in words.items())
    noun = words["snowman"]
    assert noun.kind == "noun" and noun.supported and noun.support is not None
    assert (noun.support.task, noun.support.name) == ("categories", "snowman")
    assert noun.support.probability == snowman.caption.probability
    # Only a view that shows what lies below can carry the relation.
    above = words["above"]
    assert above.kind == "property" and above.view in (0.1, 0.2) and max(each.drop for each in above.left_out) > 1
    assert [each.t for each in above.left_out] == [0.1, 0.2]
    assert "object" not in words and "another" not in words


def test_labels_have_logits_and_attributes_their_synonym(model: DynRefer, snowman: RegionDescription) -> None:
    labels = why(snowman).labels
    for task, found in labels.items():
        results = snowman.results[task]
        assert [(each.name, each.score) for each in found] == [(each.name, each.score) for each in results]
        for each in found:
            assert each.source == "network" and each.logit is not None
            score = each.logit if task == "categories" else 1 / (1 + np.exp(-each.logit))
            assert score == pytest.approx(each.score, rel=1e-4)
    synonyms = {attribute.name: attribute.synonyms for attribute in model._loaded.vocabulary.attributes}
    assert all(each.synonym in synonyms[each.name] for each in labels["attributes"])


def test_control_words_and_which_the_caption_took_up(snowman: RegionDescription) -> None:
    controls = {each.word: each for each in why(snowman).controls or ()}
    assert controls["street"].source == "request" and controls["street"].given and not controls["street"].taken_up
    assert controls["dotted"].source == "tags" and controls["dotted"].taken_up
    assert not any("~" in word for word in controls)


def test_the_evidence_carries_the_words_of_a_photograph(model: DynRefer) -> None:
    (found,) = model.describe(PHOTOGRAPH, [CAT], ["caption", "tags"], explain=True, controls=["street", "leash"])
    (word,) = why(found).words or ()
    assert (word.text, word.carried_by, word.view, word.left_out) == ("cat", "evidence", None, ())
    identity = why(found).identity
    assert identity is not None and identity.domain == "photograph" and identity.photograph_probability > 0.9
    assert identity.names[0].name == "cat" and identity.colours
    assert all(each.source == "evidence" and each.logit is None for each in why(found).labels["tags"])
    assert [(each.word, each.given) for each in why(found).controls or ()] == [("street", False), ("leash", False)]


def test_plans_of_several_tasks(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, [SNOWMAN], ["caption", "categories"], explain=Explain(candidates=False))
    priors = {prior.tasks: prior.views for prior in why(found).priors}
    card = model.card.task_priors
    assert priors == {("caption",): card["caption"], ("categories",): card["categories"]}
    assert all(view.chosen for view in why(found).views)
    assert found.plan is None and set(found.plans) == {Task.CAPTION, Task.CATEGORIES}


def test_words_of_the_request_are_known(model: DynRefer) -> None:
    vocabulary = {"categories": [{"name": "snow person", "synonyms": ["snowman"]}, "dog"]}
    (found,) = model.describe(SCENE, [SNOWMAN], ["caption", "categories"], vocabulary=vocabulary, explain=True)
    words = {word.text: word for word in why(found).words or ()}
    assert words["snow person"].supported and words["snow person"].support is not None
    (first, *_) = why(found).labels["categories"]
    assert first.source == "placement" and first.logit is None
    assert ("snowman", "own") in [(each.word, each.via) for each in first.senses]


def test_an_explanation_changes_no_result(model: DynRefer, snowman: RegionDescription) -> None:
    (plain,) = model.describe(SCENE, [SNOWMAN], controls=["street"])
    assert plain.explanation is None
    assert plain.caption == snowman.caption and plain.categories == snowman.categories and plain.tags == snowman.tags


def test_continuous_batching_explains_the_same(snowman: RegionDescription) -> None:
    model = DynRefer.load("embedded", device="cpu", batching="continuous")
    batch = model.continuous()
    assert batch is not None
    queries = [
        RegionQuery(SNOWMAN, controls=("street",), explain=Explain(thumbnails=True)),
        RegionQuery((57.0, 148.0, 122.0, 229.0)),
    ]
    regions = model.prepare(upright_pixels(SCENE), queries)
    tickets = dict(zip(batch.admit(regions), regions, strict=True))
    found = {}
    while len(found) < len(tickets):
        found |= {ticket: model.finish(tickets[ticket], output) for ticket, output in batch.advance()}
    explained, plain = (found[ticket] for ticket in tickets)
    assert why(explained).views == why(snowman).views and plain.explanation is None
    for one, other in zip(why(explained).words or (), why(snowman).words or (), strict=True):
        assert (one.text, one.view, one.supported) == (other.text, other.view, other.supported)
        for drop, same in zip(one.left_out, other.left_out, strict=True):
            assert drop.drop == pytest.approx(same.drop, abs=1e-3)
    assert [each.synonym for each in why(explained).labels["attributes"]] == [
        each.synonym for each in why(snowman).labels["attributes"]
    ]


def test_probes_cost_no_view_and_repeat_the_first() -> None:
    image = upright_pixels(SCENE)
    plain, explained = prepare(image, [RegionQuery(SNOWMAN), RegionQuery(SNOWMAN, explain=Explain())], SPEC)
    assert plain.num_views == explained.num_views == 3
    probes = [each for each in explained.inputs if each.left_out is not None]
    digests = explained.inputs[0].views.digests
    assert [each.views.digests for each in probes] == [
        digests,
        (digests[0], digests[0], digests[2]),
        (digests[0], digests[1], digests[0]),
    ]
    only_views = prepare(image, [RegionQuery(SNOWMAN, explain=Explain(evidence=False))], SPEC)[0]
    assert len(only_views.inputs) == 1 and len(only_views.explained) == 11


@pytest.mark.parametrize(
    ("policy", "tasks", "views", "expected"),
    [
        (ViewPolicy.IMAGE_PRIOR, (Task.CAPTION,), None, ViewPolicy.IMAGE_PRIOR),
        (ViewPolicy.TASK_PRIOR, None, None, ViewPolicy.TASK_PRIOR),
        (ViewPolicy.FIXED, (Task.CAPTION,), (0.0, 0.5, 1.0), ViewPolicy.FIXED),
        (None, (Task.CAPTION,), None, ViewPolicy.TASK_PRIOR),
        (None, None, None, ViewPolicy.IMAGE_PRIOR),
    ],
)
def test_a_policy_by_force(
    policy: ViewPolicy | None,
    tasks: tuple[Task, ...] | None,
    views: tuple[float, ...] | None,
    expected: ViewPolicy,
) -> None:
    priors = {task.value: (0.0, 0.2, 0.7) for task in Task}
    spec = type(SPEC)(3, 64, priors)
    query = RegionQuery(SNOWMAN, tasks, views=views, view_policy=policy)
    (region,) = prepare(upright_pixels(SCENE), [query], spec)
    assert {each.plan.policy for each in region.inputs} == {expected}


@pytest.mark.parametrize(
    ("policy", "views", "part"), [(ViewPolicy.FIXED, None, "needs"), (ViewPolicy.TASK_PRIOR, (0.0, 0.5, 1.0), "leave")]
)
def test_a_policy_that_contradicts_the_views(policy: ViewPolicy, views: tuple[float, ...] | None, part: str) -> None:
    with pytest.raises(ViewsError, match=part):
        prepare(upright_pixels(SCENE), [RegionQuery(SNOWMAN, views=views, view_policy=policy)], SPEC)


def test_explicit_views_off_the_grid_are_listed(model: DynRefer) -> None:
    (found,) = model.describe(SCENE, [SNOWMAN], "tags", views=(0, 0.25, 0.25), explain=True)
    chosen = [view.t for view in why(found).views if view.chosen]
    assert chosen == [0.0, 0.25] and len(why(found).views) == 12
    assert why(found).priors[0].views == (0.0, 0.25, 0.25) and why(found).words is None


OWN: list[dict[str, list[str]] | None] = [
    None,
    {"tags": ["red", "zebra"]},
    {"categories": ["snow person", "dog"], "attributes": ["color:crimson/red"]},
]


@pytest.mark.parametrize("vocabulary", OWN)
@pytest.mark.parametrize("task", [None, "caption", ["caption", "categories"]])
def test_a_model_that_writes_the_noun_itself(
    opened: DynRefer, task: str | list[str] | None, vocabulary: dict[str, list[str]] | None
) -> None:
    (found,) = opened.describe(SCENE, [SNOWMAN], task, vocabulary=vocabulary, controls=["leash"], explain=True)
    assert found.caption is not None and why(found).identity is None
    for word in why(found).words or ():
        assert found.caption.text[word.start : word.end] == word.text
        assert (word.support is None) == (word.carried_by is None) or vocabulary is not None
    assert [each.word for each in why(found).controls or ()][0] == "leash"
    for task_name, labels in why(found).labels.items():
        assert all(each.source == "network" and each.logit is not None for each in labels)
        assert [each.name for each in labels] == [each.name for each in found.results[task_name]]

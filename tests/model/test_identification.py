"""What a region shows is decided once, from that region and its image alone, and all outputs say it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.model import DynRefer
from dynrefer.model.batch import run_batch
from dynrefer.model.cache import FeatureCache
from dynrefer.model.evidence.colour import COLOURS
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.tasks.caption import CaptionTask, GeneratedCaption, control_words
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.tags import TagsTask
from dynrefer.model.types import RegionQuery, Task
from tests.repository import DOCS

SCENE, CAT = DOCS / "scene.png", DOCS / "chelsea.jpg"
DRAWN_BOX, CAT_BOX = (41.0, 2.0, 117.0, 82.0), (90.0, 40.0, 300.0, 250.0)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def model(loaded: LoadedModel) -> DynRefer:
    return DynRefer(loaded)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize(("path", "box", "domain"), [(SCENE, DRAWN_BOX, "drawing"), (CAT, CAT_BOX, "photograph")])
def test_all_outputs_say_the_same_name(
    model: DynRefer, loaded: LoadedModel, path: Path, box: tuple[float, ...], domain: str
) -> None:
    (found,) = model.describe(path, [box])
    assert found.domain == domain and found.caption and found.categories and found.tags
    name = found.caption.name
    assert name == found.categories[0].name and found.caption.probability == found.categories[0].probability
    assert re.search(rf"\b{name}\b", found.caption.text) and "~" not in found.caption.text
    things = {*loaded.vocabulary.categories, *(entry.name for entry in loaded.evidence.names.names)}  # type: ignore[union-attr]
    parents = {parent.name for parent in loaded.evidence.names.parents}  # type: ignore[union-attr]
    assert [tag.name for tag in found.tags if tag.name in things - parents] == [name]


def test_a_photograph_gets_a_noun_and_a_colour_and_no_more(model: DynRefer) -> None:
    (found,) = model.describe(CAT, [CAT_BOX], "caption")
    assert found.caption is not None
    assert set(found.caption.text.split()) - {"a", "an", *COLOURS} == {found.caption.name}
    (more,) = model.describe(CAT, [CAT_BOX], "caption", controls=("striped", "dog", "~", "no such word"))
    assert more.caption is not None and more.caption.text == "a striped cat"


def test_one_decision_for_all_views_of_a_region(model: DynRefer, loaded: LoadedModel) -> None:
    """Tasks with views of their own make several inputs; the one with the categories decides."""
    tasks = (Task.CAPTION, Task.TAGS, Task.CATEGORIES)
    regions = [
        *model.prepare(pixels(SCENE), [RegionQuery(DRAWN_BOX, tasks)]),
        *model.prepare(pixels(CAT), [RegionQuery(CAT_BOX, tasks), RegionQuery(CAT_BOX, (Task.CAPTION,))]),
    ]
    assert [len(region.inputs) for region in regions] == [3, 3, 1]
    outputs = model.run(regions)
    for output in outputs[:2]:
        assert len({id(each.identity) for each in output.outputs}) == 1
    assert [output.outputs[0].identity.domain for output in outputs] == ["drawing", "photograph", "photograph"]  # type: ignore[union-attr]
    backwards = model.run(regions[::-1])[::-1]
    for region, one, other in zip(regions, outputs, backwards, strict=True):
        assert model.finish(region, one).results == model.finish(region, other).results


def test_a_crop_that_is_cached_is_not_looked_at_again(loaded: LoadedModel, model: DynRefer) -> None:
    inputs = model.prepare(pixels(CAT), [RegionQuery(CAT_BOX, (Task.CAPTION,))])[0].inputs
    cache = FeatureCache(1 << 24)
    first, again = (run_batch(loaded, inputs, cache).outputs[0] for _ in range(2))
    assert (cache.sightings.stats.hits, cache.sightings.stats.misses) == (1, 1)
    assert first["caption"] == again["caption"] and np.array_equal(first.identity.names, again.identity.names)  # type: ignore[union-attr]


def test_a_network_without_evidence_takes_all_for_drawings() -> None:
    plain = DynRefer(load_model("embedded", device="cpu", dtype="float32", evidence=False))
    (found,) = plain.describe(CAT, [CAT_BOX])
    assert found.domain == "drawing" and found.caption is not None
    assert found.caption.name in plain.card.vocabulary["categories"]
    assert len(plain.card.vocabulary["categories"]) == 125


def photograph(loaded: LoadedModel, *, colour: str | None = None, **names: float) -> Identity:
    """Unsure, so that a parent is said."""
    evidence = loaded.evidence
    assert evidence is not None
    row = np.zeros(len(evidence.names.names), np.float32)
    for name, value in names.items():
        row[evidence.names.index(name)] = value
    colours = np.zeros(len(COLOURS), np.float32)
    return Identity("animal", 0.9, np.zeros(125, np.float32), True, True, 1.0, row, colours, colour)


def test_the_broader_word_stands_in_front_and_counts(loaded: LoadedModel) -> None:
    unsure = photograph(loaded, dog=0.45, cat=0.4, mop=0.1)
    task, logits = CategoriesTask(), np.zeros(125, np.float32)
    found = task.finish(loaded, logits, unsure, None, 3)
    assert [(each.name, each.level) for each in found] == [("animal", "parent"), ("dog", None), ("cat", None)]
    assert [each.probability for each in found] == pytest.approx([0.9, 0.45, 0.4])
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert [each.name for each in task.finish(loaded, logits, unsure, found[1].score, 3)] == ["animal"]
    assert task.finish(loaded, logits, unsure, found[0].score, 3) == ()
    assert len(task.finish(loaded, logits, replace(unsure, is_parent=False), None, 3)) == 3


def test_tags_say_the_broader_word_by_default(loaded: LoadedModel) -> None:
    unsure = photograph(loaded, dog=0.45, cat=0.4)
    threshold = loaded.network.config.thresholds["tags"]
    found = TagsTask().finish(loaded, np.zeros(177, np.float32), unsure, threshold, 10)
    assert [tag.name for tag in found] == ["animal"]
    assert [tag.name for tag in TagsTask().finish(loaded, np.zeros(177, np.float32), unsure, 0.5, 3)][:2] == [
        "animal",
        "dog",
    ]


def test_control_words(loaded: LoadedModel) -> None:
    tags = np.full(len(loaded.vocabulary.tags), -9.0, np.float32)
    for name in ("dog", "red", "grass"):
        tags[loaded.vocabulary.tag_index[name]] = 9.0
    drawn = Identity("dog", 0.9, np.zeros(125, np.float32))
    assert control_words(loaded, tags, ("wet ~ nose", "~"), drawn) == "~,wet  nose,grass,red|"
    seen = photograph(loaded, colour="brown", dog=0.45)
    assert control_words(loaded, tags, ("grass", "dog", "unheard of"), seen) == "~,grass,brown.|"
    assert control_words(loaded, tags, (), replace(seen, colour="beige")) == "~.|"
    assert control_words(loaded, tags, ("wet",), None) == "wet,dog,grass,red|"


def test_a_caption_that_forgets_its_noun_is_the_noun(loaded: LoadedModel) -> None:
    ids = loaded.language_tokenizer("a brown", add_special_tokens=False).input_ids
    found = CaptionTask().finish(loaded, GeneratedCaption((0, *ids), -0.1, -0.2, 2), photograph(loaded), None, 1)
    assert (found.text, found.name, found.probability) == ("an animal", "animal", 0.9)

"""The embedded finder with the weights that ship, on drawn scenes and photographs of the tests."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dynrefer.model import DynRefer
from dynrefer.model.errors import ConfigError, FinderError, WeightsError
from dynrefer.model.finding import AskedName, Candidates, FindQuery
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.masks import bitmap_from_mask
from dynrefer.model.networks.finder.weights import load_files
from dynrefer.model.types import Task
from tests.repository import DOCS, ROOT

SCENE = DOCS / "scene.png"  # a snowman and a pig, among others
DOGS = ROOT / "benchmarks" / "photographs" / "two-dogs.jpg"


@cache
def model() -> DynRefer:
    return DynRefer.load("embedded", device="cpu")


def search(image: NDArray[np.uint8], *names: str, **more: Any) -> Candidates:
    spec = model().finding
    assert spec is not None
    query = FindQuery(tuple(map(AskedName, names)), **more)
    return model().find(list(spec.prepare_each(image, [query])))[0]


def test_names_have_boxes_in_a_drawing_and_what_is_not_there_is_absent() -> None:
    found = model().detect(SCENE, ["pig", "snowman", "saxophone"])
    assert {region.label for region in found.regions} == {"pig", "snowman"}
    boxes = {region.label: region.box for region in found.regions}
    for name, (x, y) in (("snowman", (80, 40)), ("pig", (78, 115))):
        x1, y1, x2, y2 = boxes[name]
        assert x1 < x < x2 and y1 < y < y2
    assert [each.name for each in found.absent] == ["saxophone"]
    assert all(0 <= region.probability <= 1 and region.score >= 0.25 for region in found.regions)


def test_a_name_has_the_same_scores_whatever_else_is_asked_and_in_any_order() -> None:
    image = upright_pixels(SCENE)
    names = ["pig", "animal", "snowman", "cup"]
    together, backwards = search(image, *names), search(image, *reversed(names))
    for name in names:
        alone = search(image, name)
        np.testing.assert_allclose(alone.boxes, together.boxes, atol=1e-4)
        own = alone.scores[:, 0]
        np.testing.assert_allclose(together.scores[:, together.texts.index(name)], own, atol=1e-4)
        np.testing.assert_allclose(backwards.scores[:, backwards.texts.index(name)], own, atol=1e-4)


def test_broader_words_and_synonyms_are_understood_and_others_named() -> None:
    found = model().detect(SCENE, [{"name": "beast", "synonyms": ["animal"]}, "zzyzx"])
    assert found.regions[0].label == "beast"
    assert [word.name for word in found.unknown_words] == ["zzyzx"]


def test_excluded_words_suppress() -> None:
    assert model().detect(SCENE, ["animal"]).regions
    left = model().detect(SCENE, [{"name": "animal", "not": ["pig"]}]).regions
    pig = model().detect(SCENE, ["pig"]).regions[0]
    assert all(region.candidate != pig.candidate for region in left)


def test_a_held_out_name_is_found_through_the_describer() -> None:
    settings = load_files(EMBEDDED / "finder")
    assert "crown" not in settings.names and "pig" in settings.names
    image = upright_pixels(SCENE)
    assert not np.isnan(search(image, "crown").scores).any()


def test_masks_lie_in_their_boxes() -> None:
    (region, *_) = model().detect(SCENE, ["pig"], masks=True).regions
    assert region.mask is not None
    rows, columns = np.nonzero(bitmap_from_mask(region.mask))
    x1, y1, x2, y2 = region.box
    assert x1 - 1 <= columns.min() and columns.max() <= x2 and y1 - 1 <= rows.min() and rows.max() <= y2
    assert len(rows) > 0.3 * (x2 - x1) * (y2 - y1)


def test_dogs_of_a_photograph_are_found_with_masks_of_the_segmenter() -> None:
    found = model().detect(DOGS, ["dog", "cat"], masks=True)
    assert [region.label for region in found.regions] == ["dog", "dog"]
    assert all(region.mask is not None and bitmap_from_mask(region.mask).sum() > 1000 for region in found.regions)


def test_words_that_the_detector_lacks_are_left_to_the_describer() -> None:
    found = search(upright_pixels(DOGS), "dog", "spaniel", "animal")
    assert np.isnan(found.scores[:, 1]).all() and not np.isnan(found.scores[:, [0, 2]]).any()
    looks = model().look_again(
        FindQuery((AskedName("dog"), AskedName("spaniel"))), search(upright_pixels(DOGS), "dog", "spaniel")
    )
    assert looks and all(look.tasks == (Task.CATEGORIES,) for look in looks)


def test_with_nothing_asked_everything_is_named_and_described_on_demand() -> None:
    found = model().detect(SCENE, max_regions=3, describe="tags")
    assert 1 <= len(found.regions) <= 3
    for region in found.regions:
        assert region.category and region.phrase and region.description is not None
        assert region.description.tags
    assert [region.score for region in found.regions] == sorted((r.score for r in found.regions), reverse=True)


def test_a_phrase_is_grounded() -> None:
    found = model().detect(SCENE, phrase="a pig below the snowman")
    assert {(region.label, region.span) for region in found.regions} == {("a pig", (0, 5)), ("the snowman", (12, 23))}


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (32, 32)])
def test_images_of_any_shape(size: tuple[int, int]) -> None:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    assert model().detect(image, ["dog"], masks=True).regions == ()


def test_wrong_arguments_are_named() -> None:
    for arguments, sentence in (
        ({"names": ["a"], "phrase": "a"}, "together"),
        ({"names": ["a", "A"]}, "twice"),
        ({"names": [""]}, "not empty"),
        ({"names": [{"name": "a", "nope": 1}]}, "'nope'"),
        ({"names": ["a"], "threshold": 2}, "threshold is 2"),
        ({"names": ["a"], "nms": -1}, "nms is -1"),
        ({"max_regions": 0}, "max_regions is 0"),
        ({"names": ["a"], "describe": "colour"}, "colour"),
    ):
        with pytest.raises(ValueError, match=sentence):
            model().detect(SCENE, **arguments)  # type: ignore[arg-type]  # that is what is tested


def test_without_a_finder_it_says_how_to_have_one() -> None:
    with pytest.raises(FinderError, match="--finder DIR"):
        DynRefer.load("embedded", device="cpu", finder="none").detect(SCENE, ["pig"])


def test_spoilt_files_are_refused(tmp_path: Path) -> None:
    for name in ("config.json", "finder.safetensors"):
        (tmp_path / name).write_bytes((EMBEDDED / "finder" / name).read_bytes())
    load_files(tmp_path)
    weights = tmp_path / "finder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(WeightsError):
        load_files(tmp_path)
    config = tmp_path / "config.json"
    whole = config.read_text()
    for text, sentence in (
        (whole.replace('"neck"', '"nack"'), "'network' holds"),
        (whole.replace('"names"', '"n"'), "'names'"),
    ):
        config.write_text(text)
        with pytest.raises(ConfigError, match=sentence):
            load_files(tmp_path)

"""Released finders through their classes, tiny and with random weights: what holds whatever the weights are."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dynrefer.model.errors import ConfigError, FinderError, ModelNotFoundError, StoppedError, WeightsError
from dynrefer.model.finding import AskedName, Candidates, Finder, FindQuery
from dynrefer.model.findings import findings
from dynrefer.model.networks.finder.loading import load_finder
from dynrefer.model.networks.finder.spans import tokens_of
from tests.model.networks.finder.tiny_finders import save_grounding_dino, save_owlv2

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
SIZE = (90, 60)
KINDS: dict[str, Callable[[Path], None]] = {
    "grounding-dino": save_grounding_dino,
    "mm-grounding-dino": lambda folder: save_grounding_dino(folder, mm=True),
    "owlv2": save_owlv2,
}


def load(folder: Path) -> Finder:
    loaded = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    found = load_finder(str(folder), folder, loaded)  # type: ignore[arg-type]  # all that it needs of a model
    assert found is not None
    return found


@pytest.fixture(scope="module", params=KINDS)
def finder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Finder:
    folder = tmp_path_factory.mktemp(request.param)
    KINDS[request.param](folder)
    return load(folder)


def search(finder: Finder, *queries: FindQuery) -> list[Candidates]:
    return finder.find(list(finder.spec.prepare_each(IMAGE, queries)), lambda: False)


def query(*names: str | AskedName) -> FindQuery:
    asked = tuple(AskedName(each) if isinstance(each, str) else each for each in names)
    return FindQuery(asked, threshold=0.0, max_regions=1000, nms=1.0)


def of_name(found: Candidates, name: str) -> list[tuple[float, ...]]:
    """The boxes that were found for a name and their scores, by score."""
    column = found.scores[:, found.texts.index(name)]
    rows = np.concatenate([column[:, None], found.boxes], axis=1)[column > 0]
    return [tuple(row) for row in rows[np.lexsort(rows.T)]]


def test_a_names_boxes_depend_on_no_other_name_and_on_no_order(finder: Finder) -> None:
    names = ["dog", "red cup", "cat", "a glass on the cup"]
    together, reversed_order = search(finder, query(*names), query(*reversed(names)))
    for name in names:
        (alone,) = search(finder, query(name))
        own = of_name(alone, name)
        assert own
        if len(own) == len(of_name(together, name)):
            np.testing.assert_allclose(of_name(together, name), own, atol=1e-4)
        else:  # one pass for all names: beside the best of a name there are those of others, with its scores
            both = of_name(together, name)
            for row in own:
                assert np.abs(np.array(both) - np.array(row)).max(axis=1).min() < 1e-4
        np.testing.assert_allclose(of_name(together, name), of_name(reversed_order, name), atol=1e-4)


def test_an_image_is_the_same_in_any_batch(finder: Finder) -> None:
    (alone,) = search(finder, query("dog", "cat"))
    _, beside = search(finder, query("the red glass"), query("dog", "cat"))
    np.testing.assert_allclose(beside.boxes, alone.boxes, atol=1e-4)
    np.testing.assert_allclose(beside.scores, alone.scores, atol=1e-4)


def test_boxes_are_in_the_upright_image_and_numbers_are_probabilities(finder: Finder) -> None:
    (found,) = search(finder, query("dog", AskedName("cup", ("glass",), ("cat",))))
    assert found.texts == ("dog", "cup", "glass", "cat") and len(found.boxes)
    assert (found.boxes >= 0).all() and (found.boxes <= np.array([90, 60, 90, 60])).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    for values in (found.objectness, found.scores, found.presence):
        assert (values >= 0).all() and (values <= 1).all()
    assert (np.diff(found.objectness) <= 0).all()


def test_with_nothing_asked_there_are_proposals(finder: Finder) -> None:
    (found,) = search(finder, FindQuery())
    assert len(found.boxes) and found.scores.shape == (len(found.boxes), 0)


def test_synonyms_are_the_names_and_excluded_words_have_columns(finder: Finder) -> None:
    asked = query(AskedName("dog", ("puppy",)))
    (found,) = search(finder, asked)
    regions = findings(asked, found, (), SIZE).regions
    assert regions and {region.label for region in regions} == {"dog"}
    best = found.scores.max()
    assert regions[0].score == pytest.approx(best, abs=1e-4)


def test_it_stops_when_nobody_waits(finder: Finder) -> None:
    with pytest.raises(StoppedError):
        finder.find(list(finder.spec.prepare_each(IMAGE, [query("dog")])), lambda: True)


def test_a_name_of_too_many_tokens_is_named(finder: Finder) -> None:
    with pytest.raises(FinderError, match="at most") as caught:
        search(finder, query("dog", " ".join(["cup"] * 40)))
    assert caught.value.field == "names/1"


def test_a_sentence_has_a_column_per_phrase(tmp_path: Path) -> None:
    save_grounding_dino(tmp_path)
    (found,) = search(load(tmp_path), FindQuery(phrase="The red cup left of a dog"))
    assert [each.text for each in found.phrases] == ["The red cup", "a dog"] == list(found.texts)
    assert found.scores.shape == (len(found.boxes), 2) and (found.scores.max(axis=0) > 0).all()


def test_a_name_without_a_token_is_named() -> None:
    def tokenizer(text: str, **_: object) -> dict[str, list[object]]:
        return {"input_ids": [101, 200, 102], "offset_mapping": [(0, 0), (0, 3), (0, 0)]}

    assert tokens_of(tokenizer, "dog.", [(0, 3)], 8, "names/0").spans == ((1,),)
    with pytest.raises(FinderError, match="reads nothing") as caught:
        tokens_of(tokenizer, "dog. x.", [(0, 3), (5, 6)], 8, "names/1")
    assert caught.value.field == "names/1"


def test_the_backbone_runs_once_per_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_grounding_dino(tmp_path)
    finder: Any = load(tmp_path)
    backbone, runs = finder._backbone.backbone, []
    run = backbone.forward

    def counted(*given: Any) -> Any:
        runs.append(given)
        return run(*given)

    monkeypatch.setattr(backbone, "forward", counted)
    search(finder, query("dog", "the red cup", "a cat and a dog"), query("dog"))
    assert len(runs) == 2


def test_what_is_no_finder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no finder directory"):
        load(tmp_path / "missing")
    save_owlv2(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ConfigError, match="'bert', which is no finder"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    preprocessor = (tmp_path / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}))
    with pytest.raises(ConfigError, match="image_std"):
        load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(preprocessor)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(ModelNotFoundError):
        load(tmp_path)

"""The shipped graph of nouns, and files that are none."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dynrefer.model.errors import WeightsError
from dynrefer.model.evidence.noun_graph import NounGraph
from dynrefer.model.loading import EMBEDDED

FILE = EMBEDDED / "evidence/nouns.safetensors"


@pytest.fixture(scope="module")
def graph() -> NounGraph:
    return NounGraph.load(FILE)


def test_senses(graph: NounGraph) -> None:
    assert [str(sense) for sense in graph.senses("sneaker")] == ["sneaker.1", "sneaker.2"]
    assert graph.name(graph.senses("sneaker")[0].synset) == "n03472535"
    assert graph.senses("happiness") == ()  # no thing
    assert graph.senses("paris") == ()  # no kind of thing
    assert graph.irregular["mice"] == "mouse"


def test_above(graph: NounGraph) -> None:
    dog = graph.synset("n02084071")
    assert dog is not None
    assert sorted(map(graph.name, graph.hypernyms(dog))) == ["n01317541", "n02083346"]
    assert graph.information(dog) < graph.information(graph.senses("poodle")[0].synset)
    assert graph.synset("n00000001") is None


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("hypernyms", 0, 65_535),
        ("senses", 0, 65_535),
        ("sense_counts", 0, 200),
        ("below", 5, 0),
        ("classes", 0, 65_535),
    ],
)
def test_a_file_that_contradicts_itself(name: str, place: int, value: int, tmp_path: Path) -> None:
    arrays = load_file(FILE)
    changed = arrays[name].copy()
    changed[place if name != "below" else int(np.argmax(changed))] = value
    save_file(arrays | {name: changed}, tmp_path / "nouns.safetensors")
    with pytest.raises(WeightsError, match="contradicts itself"):
        NounGraph.load(tmp_path / "nouns.safetensors")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    save_file({"lemmas": np.zeros(3, np.uint8)}, tmp_path / "nouns.safetensors")
    with pytest.raises(WeightsError, match="must hold"):
        NounGraph.load(tmp_path / "nouns.safetensors")

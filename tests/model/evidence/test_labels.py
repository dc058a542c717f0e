"""What tags and attributes list of a photographed region."""

import numpy as np
import pytest

from dynrefer.model.evidence.colour import COLOURS
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.labels import photograph_attributes, photograph_tags
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.vocabulary import Vocabulary

NAMES = EvidenceNames.load(EMBEDDED / "evidence" / "names.json")


def identity(name: str, said: float, *, parent: bool = False, colour: str | None = None, **names: float) -> Identity:
    """Of a photograph; the colours brown .9, red .8, all others 0."""
    row = np.zeros(len(NAMES.names), np.float32)
    for each, value in names.items():
        row[NAMES.index(each)] = value
    colours = np.zeros(len(COLOURS), np.float32)
    colours[COLOURS.index("brown")], colours[COLOURS.index("red")] = 0.9, 0.8
    return Identity(name, said, np.zeros(0, np.float32), parent, True, 1.0, row, colours, colour)


def tags(known: Identity) -> dict[str, float]:
    found = photograph_tags(known, NAMES)
    return dict(zip(found.names, found.probabilities.tolist(), strict=True))


def test_a_name_and_what_it_is() -> None:
    found = tags(identity("dog", 0.8, dog=0.8, cat=0.1))
    assert found["dog"] == pytest.approx(0.8) and found["animal"] == pytest.approx(0.9)
    assert "object" not in found and [name for name in found if found[name] > 0.5 and name in NAMES] == ["dog"]


def test_the_broader_word_instead_of_unsure_names() -> None:
    found = tags(identity("animal", 0.85, parent=True, dog=0.45, cat=0.4))
    assert found["animal"] == pytest.approx(0.85) and found["dog"] < 0.5
    assert tags(identity("object", 1.0, parent=True, dog=0.3))["object"] == 1.0


def test_only_the_colour_that_is_said_is_likely() -> None:
    found = tags(identity("dog", 0.8, dog=0.8, colour="brown"))
    assert found["brown"] == pytest.approx(0.9) and found["red"] == 0.5
    assert tags(identity("dog", 0.8, dog=0.8))["brown"] == 0.5


def test_attributes_are_colours_as_measured_and_nothing_else_with_confidence() -> None:
    attributes = Vocabulary.load(EMBEDDED).attributes
    found = photograph_attributes(identity("dog", 0.8, dog=0.8), attributes, np.ones(len(attributes), np.float32))
    by_name = {each.name: value for each, value in zip(attributes, found.tolist(), strict=True)}
    assert by_name["color:brown"] == pytest.approx(0.9) and by_name["color:green"] == 0.0
    assert max(value for name, value in by_name.items() if not name.startswith("color:")) == 0.5

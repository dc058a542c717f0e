"""Tower and detector together, with the names and the settings that ship."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from dynrefer.model.errors import ConfigError
from dynrefer.model.evidence.detector import COCO_NAMES
from dynrefer.model.evidence.fusion import Fusion, rooms
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.loading import EMBEDDED

SETTINGS = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))["evidence"]["fusion"]
NAMES = EvidenceNames.load(EMBEDDED / "evidence" / "names.json")
FUSION = Fusion.from_config(SETTINGS, NAMES)
SCENE = 0.05  # coverage of a small region


def logits(**names: float) -> np.ndarray:
    """The tower's logits: so much for the first class of each name ("soccer_ball"), 0 for all others."""
    found = np.zeros(1000, np.float32)
    for name, value in names.items():
        found[NAMES.names[NAMES.index(name.replace("_", " "))].classes[0]] = value
    return found


def support(**classes: float) -> np.ndarray:
    """The detector's support of COCO's classes."""
    found = np.zeros(len(COCO_NAMES), np.float32)
    for name, value in classes.items():
        found[COCO_NAMES.index(name)] = value
    return found


def best(tower: np.ndarray, detector: np.ndarray, coverage: float) -> str:
    """The likeliest name."""
    return NAMES.names[int(FUSION.names_of(tower, detector, coverage).argmax())].name


def test_a_silent_detector_leaves_the_tower_its_word() -> None:
    alone, both = FUSION.tower_alone(logits(hammer=14)), FUSION.names_of(logits(hammer=14), support(), SCENE)
    assert NAMES.names[int(alone.argmax())].name == NAMES.names[int(both.argmax())].name == "hammer"
    assert both.sum() == pytest.approx(1, abs=1e-5) and both.min() >= 0


def test_the_detector_names_what_the_tower_lacks() -> None:
    assert best(logits(sweatshirt=14), support(person=0.7), SCENE) == "person"


def test_the_tower_names_what_falls_under_the_detectors_class() -> None:
    assert best(logits(minivan=12), support(car=0.7), SCENE) == "minivan"
    assert best(logits(), support(car=0.7), SCENE) == "car"


def test_a_sure_tower_in_a_picture_that_it_fills_is_not_overruled() -> None:
    assert best(logits(hammer=14), support(scissors=0.45), 1.0) == "hammer"


def test_the_detector_is_believed_more_the_smaller_the_part_of_the_scene() -> None:
    found = [FUSION.names_of(logits(), support(dog=0.4), coverage)[NAMES.index("dog")] for coverage in (1, 0.1, 0.01)]
    assert found == sorted(found) and found[0] < found[-1]
    assert rooms(1.0) == 0.0 and rooms(0.0) == rooms(1e-9)


def test_a_name_of_many_classes_is_no_likelier_for_that() -> None:
    """118 breeds with nothing to tell them from other classes do not make a dog."""
    alone, both = FUSION.tower_alone(logits()), FUSION.names_of(logits(), support(), 1.0)
    dog, hammer = NAMES.index("dog"), NAMES.index("hammer")
    assert both[dog] / both[hammer] < alone[dog] / alone[hammer]


def test_settings_are_refused_by_name() -> None:
    for wrong in ({**SETTINGS, "odd": 1.0}, {key: value for key, value in SETTINGS.items() if key != "doubt"}):
        with pytest.raises(ConfigError, match=r"evidence.fusion must hold temperature, .*doubt"):
            Fusion.from_config(wrong, NAMES)
    assert asdict(FUSION.settings) == SETTINGS

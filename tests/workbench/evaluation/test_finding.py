"""What `dynrefer evaluate --finder` measures: an oracle is perfect, and one that finds nothing is nothing."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from dynrefer.model import DynRefer
from dynrefer.model.finding import AbsentName, Candidates, Findings, FindQuery, FoundRegion
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.networks.finder.preparation import EmbeddedFinderSpec
from dynrefer.workbench.evaluation.finding import measure_finder, scenes_of, untrained_names
from dynrefer.workbench.evaluation.grounding_phrases import KINDS, referring_phrases
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.finder.settings import HELD_OUT_NAMES

WORLD = World.load()
SCENES = 4


class Oracle:
    """Knows the truth of every scene that is measured, or finds nothing."""

    finding = EmbeddedFinderSpec(384, 640)

    def __init__(self, *, blind: bool = False) -> None:
        self.blind = blind
        self._scenes = {s.image.tobytes(): s for s in scenes_of(WORLD, SpritePack.load(), 0, SCENES)}
        self._last: Scene | None = None

    def detect(self, image: Any, names: Sequence[str] = (), phrase: str | None = None, **_: Any) -> Findings:
        scene = self._last = self._scenes[image.tobytes()]
        if self.blind:
            return Findings((), tuple(AbsentName(name, 0.0) for name in names))
        if phrase is not None:
            target = next(each.target for each in referring_phrases(scene, WORLD) if each.text == phrase)
            return Findings((self._region(scene, target, phrase, (0, 5)),))
        regions = [
            self._region(scene, place, each.category)
            for place, each in enumerate(scene.objects)
            if not names or each.category in names
        ]
        shown = {region.label for region in regions}
        return Findings(tuple(regions), tuple(AbsentName(name, 0.0) for name in names if name not in shown))

    def find(self, images: Sequence[Any]) -> list[Candidates]:
        assert self._last is not None and len(images) == 1
        boxes = np.array([each.box for each in self._last.objects][: 0 if self.blind else None], np.float32)
        boxes = boxes.reshape(-1, 4)
        none = np.empty((len(boxes), 0), np.float32)
        return [Candidates(boxes, np.full(len(boxes), 0.9, np.float32), (), none, np.empty(0, np.float32))]

    def findings(self, query: FindQuery, found: Candidates, looked: Sequence[Any], size: tuple[int, int]) -> Findings:
        assert self._last is not None
        return self.detect(self._last.image, [each.name for each in query.names])

    def _region(self, scene: Scene, place: int, label: str, span: tuple[int, int] | None = None) -> FoundRegion:
        each = scene.objects[place]
        phrase = f"a {each.attributes.get('color', '')} {each.category}"
        mask = mask_from_bitmap(scene.visible(place))
        return FoundRegion(each.box, label, 0.9, 1.0, place, mask, span, phrase, each.category, None)


def measured(oracle: Oracle) -> dict[str, Any]:
    return measure_finder(
        cast("DynRefer", oracle),
        world=WORLD,
        held_out=HELD_OUT_NAMES,
        ancestors=lambda name: (),
        scenes=SCENES,
    )


def test_the_truth_is_perfect() -> None:
    found = measured(Oracle())
    for group in ("known", "known_one_by_one", "masks", "proposals"):
        assert found[group] == {"AP": 1.0, "AP50": 1.0, "AR10": 1.0, "AR10_50": 1.0}
    assert found["absent_names_with_a_box"] == found["images_with_a_box_of_an_absent_name"] == 0.0
    assert found["grounding"] == found["hierarchy_category"] == found["hierarchy_phrase"] == 1.0
    assert found["presence_calibration_error"] == found["region_calibration_error"] == 0.0
    assert found["scenes"] == SCENES and found["objects"] >= 3 * SCENES and found["phrases"] > 0


def test_nothing_found_is_nothing() -> None:
    found = measured(Oracle(blind=True))
    assert found["known"]["AP50"] == found["proposals"]["AR10"] == found["grounding"] == 0.0
    assert found["images_with_a_box_of_an_absent_name"] == 0.0


def test_a_phrase_tells_its_object_apart() -> None:
    kinds = set()
    for scene in scenes_of(WORLD, SpritePack.load(), 1, 12):
        for each in referring_phrases(scene, WORLD):
            kinds.add(each.kind)
            target = scene.objects[each.target]
            others = [other for place, other in enumerate(scene.objects) if place != each.target]
            if each.kind == "colour":
                colour = target.attributes["color"]
                head = each.text.split()[-1]
                alike = [o for o in others if head == "object" or WORLD.category(o.category).supercategory == head]
                assert alike and all(o.attributes.get("color") != colour for o in alike)
    assert kinds == set(KINDS)


def test_names_that_were_not_trained_are_read_off_the_finder() -> None:
    assert set(untrained_names(EMBEDDED)) == set(HELD_OUT_NAMES)


@pytest.mark.parametrize("seed", [0, 1])
def test_scenes_are_of_seeds_that_nothing_else_draws(seed: int) -> None:
    (scene,) = scenes_of(WORLD, SpritePack.load(), seed, 1)
    assert scene.seed == 5_000_000_000 + seed * 1_000_000

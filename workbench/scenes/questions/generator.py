"""Questions about a scene: of every kind that the scene gives something to ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from dynrefer.workbench.scenes.questions import all_objects, compared, one_object, turns
from dynrefer.workbench.scenes.questions.asker import Asker
from dynrefer.workbench.scenes.questions.facts import SceneFacts
from dynrefer.workbench.scenes.questions.records import Forms, Kind, Question
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World

BUILDERS: dict[Kind, Callable[[Asker], tuple[Question, ...]]] = {
    Kind.NAME: one_object.name,
    Kind.COLOUR: one_object.colour,
    Kind.SIZE: one_object.size,
    Kind.POSITION: one_object.position,
    Kind.DESCRIPTION: one_object.description,
    Kind.SEVERAL: one_object.several,
    Kind.COUNT: all_objects.count,
    Kind.EXISTENCE: all_objects.existence,
    Kind.WHERE: one_object.where,
    Kind.LISTING: all_objects.listing,
    Kind.LISTING_SOME: all_objects.listing_some,
    Kind.EXTREME: all_objects.extreme,
    Kind.RELATION: compared.relation,
    Kind.RELATION_YES_NO: compared.relation_yes_no,
    Kind.BESIDE: compared.beside,
    Kind.LARGER: compared.larger,
    Kind.LARGER_YES_NO: compared.larger_yes_no,
    Kind.SAME_COLOUR: compared.same_colour,
    Kind.SAME_GROUP: compared.same_group,
    Kind.SAME_OBJECT: compared.same_object,
    Kind.CHOICE: turns.choice,
    Kind.SETTING: turns.setting,
    Kind.FOLLOW_UP: turns.follow_up,
    Kind.ABSENT: all_objects.absent,
    Kind.UNANSWERABLE: turns.unanswerable,
}


def questions_about(
    scene: Scene,
    world: World,
    random: np.random.Generator,
    forms: Forms = Forms.TRAINING,
    *,
    kinds: Collection[Kind] | None = None,
    most: int | None = None,
    facts: SceneFacts | None = None,
) -> list[Question]:
    """One question of every kind, in random order; two of the kinds that are answered yes or no, one of each.

    A kind is left out where the scene gives nothing to ask for. kinds: only these. most: so many at most; a pair of
    yes and no is taken whole or not at all. facts: of the scene, where they are known already.
    Training asks with `Forms.TRAINING` about scenes of the split "train", and so never sees what is held out.
    """
    known = facts or SceneFacts(scene, world)
    wanted = [kind for kind in BUILDERS if kinds is None or kind in kinds]
    found: list[Question] = []
    for place in random.permutation(len(wanted)):
        kind = wanted[int(place)]
        group = BUILDERS[kind](Asker(known, random, forms, kind))
        if most is None or len(found) + len(group) <= most:
            found += group
    return found

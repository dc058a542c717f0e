"""Questions asked after another question about the same scene, which has nothing to do with them: as people do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from dynrefer.model.conversation import REGION
from dynrefer.workbench.training.converse.asked import AskedQuestion

SHARE = 0.4  # of the questions of one turn


def with_earlier_turns(questions: Sequence[AskedQuestion], seed: int) -> list[AskedQuestion]:
    """The same questions, a share of them behind another one of their scene with its answer. questions: scene by scene.
    seed: of which ones."""
    rng = np.random.default_rng((22, seed))
    found = []
    for _, group in groupby(questions, lambda each: each.seed):
        own = list(group)
        single = [each for each in own if len(each.messages) == 1 and not each.answers]
        for each in own:
            if len(each.messages) > 1 or len(single) < 2 or rng.random() >= SHARE:
                found.append(each)
                continue
            others = [other for other in single if other is not each]
            found.append(_behind(others[int(rng.integers(len(others)))], each))
    return found


def _behind(first: AskedQuestion, question: AskedQuestion) -> AskedQuestion:
    """The question behind another one and its answer. Regions of the first get names that the second has not."""
    taken = {name for name, _ in question.regions}
    names = {name: next(new for new in _names(name) if new not in taken) for name, _ in first.regions}
    said = [(role, REGION.sub(lambda found: f"<region:{names[found[1]]}>", text)) for role, text in first.messages]
    return replace(
        question,
        messages=(*said, ("assistant", first.answer), *question.messages),
        regions=(*((names[name], index) for name, index in first.regions), *question.regions),
    )


def _names(name: str) -> list[str]:
    return [name, *(f"{name}{number}" for number in range(2, 12))]

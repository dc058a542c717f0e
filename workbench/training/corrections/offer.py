"""Whether a tuned model is offered in the place of the one that runs. A rule, and nothing is ever switched by it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dynrefer.model.types import Task
from dynrefer.workbench.training.corrections.comparison import (
    CORRECTIONS,
    DRAWN,
    LOWER_IS_BETTER,
    MARGINS,
    Measured,
)

LEAST_REGIONS = 20  # held-out regions that a task's metric must be measured on to count

RULE = (
    "Offered if, on held-out corrections, the main metric of a task that was tuned improves with its whole 95 % "
    "interval above 0, and no metric there or on the drawn benchmark is worse by more than its margin ("
    f"{', '.join(f'{name} {margin:g}' for name, margin in MARGINS.items())}). Metrics of fewer than {LEAST_REGIONS} "
    "regions do not count."
)


@dataclass(frozen=True)
class Verdict:
    """reasons: sentences for and against."""

    offered: bool
    reasons: tuple[str, ...]


def decide(measured: Sequence[Measured], tuned: Collection[Task], expected: Collection[Task] = ()) -> Verdict:
    """Apply `RULE`. tuned: tasks whose weights changed on purpose. expected: tasks whose convention the corrections
    change, so that on the drawn benchmark, which keeps the old one, they are reported and do not count."""
    better, worse, open_questions = [], [], []
    for each in measured:
        d = each.difference
        if d.difference is None:
            continue
        gain = -d.difference if each.metric in LOWER_IS_BETTER else d.difference
        margin, enough = MARGINS.get(each.metric), d.regions >= LEAST_REGIONS
        counts = enough and not (each.where == DRAWN and each.task in expected)
        if margin is not None and gain < -margin and counts:
            worse.append(f"{_name(each)} is worse by {-gain:.3f}, more than {margin:g}.")
        if each.where != CORRECTIONS or not each.primary or each.task not in tuned:
            continue
        if not enough:
            open_questions.append(f"{_name(each)} was measured on {d.regions} regions; {LEAST_REGIONS} are needed.")
        elif d.low is not None and d.low > 0:
            better.append(f"{_name(each)} is better by {gain:.3f} ({d.low:+.3f} to {d.high:+.3f}).")
        else:
            open_questions.append(f"{_name(each)}: no improvement that chance would not explain.")
    if worse:
        return Verdict(False, (*worse, *better))
    if not better:
        return Verdict(False, tuple(open_questions) or ("No task that was tuned could be measured.",))
    return Verdict(True, tuple(better))


def _name(each: Measured) -> str:
    return f"{each.metric.replace('_', ' ')} of {each.task.value} on {each.where}"

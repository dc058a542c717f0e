"""The rule by which a tuned model is offered."""

from __future__ import annotations

from dynrefer.model.types import Task
from dynrefer.workbench.evaluation.paired import Difference
from dynrefer.workbench.training.corrections.comparison import CORRECTIONS, DRAWN, Measured
from dynrefer.workbench.training.corrections.offer import decide

TUNED = (Task.CATEGORIES,)


def measured(
    difference: float,
    low: float | None = None,
    *,
    where: str = CORRECTIONS,
    task: Task = Task.CATEGORIES,
    metric: str = "accuracy",
    regions: int = 100,
) -> Measured:
    low = difference - 0.01 if low is None else low
    found = Difference(0.5, 0.5 + difference, difference, low, 2 * difference - low, regions, regions // 4)
    return Measured(where, task, metric, found)


GAIN = measured(0.1, 0.05)


def test_a_gain_that_chance_does_not_explain_is_offered() -> None:
    found = decide([GAIN], TUNED)
    assert found.offered and "better by 0.100 (+0.050 to +0.150)" in found.reasons[0]


def test_a_gain_that_chance_may_explain_is_not() -> None:
    found = decide([measured(0.1, -0.01)], TUNED)
    assert not found.offered and "chance" in found.reasons[0]


def test_the_same_model_is_not_offered() -> None:
    assert not decide([measured(0.0, 0.0)], TUNED).offered


def test_too_few_regions_decide_nothing() -> None:
    few = decide([measured(0.4, 0.3, regions=19)], TUNED)
    assert not few.offered and "19 regions; 20 are needed" in few.reasons[0]
    assert decide([GAIN, measured(-0.4, task=Task.TAGS, metric="f1", regions=19)], TUNED).offered


def test_a_gain_of_what_was_not_tuned_or_of_a_side_metric_is_no_reason() -> None:
    assert not decide([measured(0.1, 0.05, task=Task.TAGS, metric="f1")], TUNED).offered
    assert not decide([measured(0.1, 0.05, task=Task.CAPTION, metric="exact")], (Task.CAPTION,)).offered
    assert not decide([measured(0.1, 0.05, where=DRAWN)], TUNED).offered


def test_any_metric_that_is_worse_by_more_than_its_margin_is_a_reason_against() -> None:
    for worse in (
        measured(-0.03, task=Task.ATTRIBUTES, metric="map"),
        measured(-0.021, where=DRAWN),
        measured(-0.3, where=DRAWN, task=Task.CAPTION, metric="cider"),
        measured(0.06, metric="calibration_error"),
    ):
        found = decide([GAIN, worse], TUNED)
        assert not found.offered and "is worse by" in found.reasons[0]


def test_a_loss_within_its_margin_is_none() -> None:
    within = [
        measured(-0.02, where=DRAWN),
        measured(-0.15, where=DRAWN, task=Task.CAPTION, metric="cider"),
        measured(0.05, metric="calibration_error"),
        measured(-0.3, metric="exact", task=Task.CAPTION),
    ]
    assert decide([GAIN, *within], TUNED).offered


def test_an_expected_change_counts_on_corrections_and_not_on_the_benchmark() -> None:
    benchmark = measured(-3.0, where=DRAWN, task=Task.CAPTION, metric="cider")
    own = measured(-3.0, task=Task.CAPTION, metric="cider")
    assert decide([GAIN, benchmark], TUNED, {Task.CAPTION}).offered
    assert not decide([GAIN, own], TUNED, {Task.CAPTION}).offered


def test_nothing_measured_is_not_offered() -> None:
    assert not decide([], TUNED).offered
    undefined = Measured(CORRECTIONS, Task.CATEGORIES, "accuracy", Difference(None, None, None, None, None, 0, 0))
    assert decide([undefined], TUNED).reasons == ("No task that was tuned could be measured.",)

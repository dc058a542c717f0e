"""What the views are worth: quality over t (the paper's figure 4), and policies against each other, 1 to 4 views.

What is measured is a `Subject`: drawn scenes with every output, or labelled data with those that they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import Answers, QuerySpec, RegionPredictor, Regions, run_queries
from dynrefer.workbench.evaluation.metrics.attribute_map import attribute_figures
from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores
from dynrefer.workbench.evaluation.metrics.recognition import top_hits
from dynrefer.workbench.evaluation.metrics.scene_metrics import scene_figures
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, mean, share
from dynrefer.workbench.evaluation.policies import MOST_VIEWS, Policy, arrangements, choose, fused, passes
from dynrefer.workbench.evaluation.report.tables import grid_table, plain_value

STUDY_REGIONS = 500
STEPS = tuple(step / 10 for step in range(11))
ONE_VIEW = "t = 0 only"

Figures = Mapping[str, Estimate]


class Subject(Protocol):
    """Regions, the tasks that they can judge, and the judgement: a figure or more per task that was asked."""

    @property
    def regions(self) -> Regions:
        """What is asked about."""
        ...

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is asked."""
        ...

    def figures(self, answers: Answers) -> dict[str, Estimate]:
        """Of the tasks that the answers hold."""
        ...


@dataclass(frozen=True)
class SceneSubject:
    """Drawn scenes: every output is known."""

    regions: RegionSet
    tag_threshold: float
    tasks: tuple[Task, ...] = ALL_TASKS

    def figures(self, answers: Answers) -> dict[str, Estimate]:
        """As `scene_figures`."""
        return scene_figures(self.regions, answers, self.tag_threshold)


@dataclass(frozen=True)
class LabelledSubject:
    """The regions of one benchmark, and its figure: CIDEr-D (words of ours), attribute mAP, or accuracy."""

    benchmark: Benchmark
    regions: LabelledData
    tasks: tuple[Task, ...]

    def figures(self, answers: Answers) -> dict[str, Estimate]:
        """One figure."""
        if self.benchmark is Benchmark.ATTRIBUTES:
            scores, targets = answers.scores[Task.ATTRIBUTES], self.regions.attribute_targets
            return {"attribute_map": attribute_figures(scores, targets, self.regions.attributes, {})["map"]}
        if self.benchmark is Benchmark.RECOGNITION:
            return {"class": share(top_hits(answers.scores[Task.CATEGORIES], self.regions.category_targets))}
        return {"cider": mean(cider_scores(answers.captions, [region.captions for region in self.regions.regions]))}


@dataclass(frozen=True)
class ViewStudy:
    """over_t: t of the second view -> figures; t = 0 is the region alone. policies: policy -> number of views ->
    figures; the region alone is "t = 0 only" with one view."""

    over_t: Mapping[float, Figures]
    policies: Mapping[str, Mapping[int, Figures]]

    def joined(self, other: ViewStudy) -> ViewStudy:
        """The figures of both; they were asked the same."""
        return ViewStudy(
            {t: {**figures, **other.over_t[t]} for t, figures in self.over_t.items()},
            {
                policy: {count: {**figures, **other.policies[policy][count]} for count, figures in counts.items()}
                for policy, counts in self.policies.items()
            },
        )

    def plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "over_t": {f"{t:g}": _plain(figures) for t, figures in self.over_t.items()},
            "policies": {
                policy: {str(count): _plain(figures) for count, figures in counts.items()}
                for policy, counts in self.policies.items()
            },
        }

    def markdown(self) -> str:
        """Two tables."""
        over_t = {f"0, {t:g}" if t else "0": figures for t, figures in self.over_t.items()}
        by_policy = {
            f"{policy}, {count} view{'s' if count > 1 else ''}": figures
            for policy, counts in self.policies.items()
            for count, figures in counts.items()
        }
        return grid_table(over_t, "views (t)") + "\n" + grid_table(by_policy, "policy")


def _plain(figures: Figures) -> dict[str, dict[str, float | None]]:
    return {
        name: {"value": plain_value(figure.value), "error": plain_value(figure.error)}
        for name, figure in figures.items()
    }


def study_views(
    predictor: RegionPredictor, subject: Subject, *, batch_regions: int, readers: int, most_views: int = MOST_VIEWS
) -> ViewStudy:
    """Ask everything in one go, so that questions share their view encodings.

    A model that fuses V views sees fewer by repetition and more by several passes (`policies.arrangements`).
    """
    slots = predictor.card.num_views
    asked: list[QuerySpec] = []

    def add(question: QuerySpec) -> int:
        asked.append(question)
        return len(asked) - 1

    # t -> the one question; (policy, count) -> groups of questions whose answers are fused
    over_t = {t: add(QuerySpec(subject.tasks, arrangements((0.0, t) if t else (0.0,), slots)[0])) for t in STEPS}
    groups: dict[tuple[str, int], list[list[int]]] = {}
    for policy in Policy:
        for count in range(2, most_views + 1):
            wanted = [(task,) for task in subject.tasks] if policy is Policy.TASK_PRIOR else [subject.tasks]
            groups[policy.value, count] = [
                [add(QuerySpec(tasks, each)) for each in passes(choose(policy, count, tasks[0]), count, slots)]
                for tasks in wanted
            ]
    answers = run_queries(predictor, subject.regions, asked, "views", batch_regions=batch_regions, readers=readers)
    figures = {t: subject.figures(answers[place]) for t, place in over_t.items()}
    policies: dict[str, dict[int, Figures]] = {ONE_VIEW: {1: figures[0.0]}}
    for (name, count), places_of in groups.items():
        found: dict[str, Estimate] = {}
        for places in places_of:
            found |= subject.figures(fused([answers[place] for place in places], subject.regions))
        policies.setdefault(name, {})[count] = found
    return ViewStudy(figures, policies)

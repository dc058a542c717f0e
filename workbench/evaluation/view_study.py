"""Studies of the views: metrics over t (the paper's figure 4), and view policies compared, with 1 to 4 views.

A `Subject` is what is measured: drawn scenes with all outputs, or one benchmark of labelled data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dynrefer.model.types import ALL_TASKS, Task
from dynrefer.workbench.data.labelled import LabelledData
from dynrefer.workbench.data.regions import Regions
from dynrefer.workbench.evaluation.benchmark import Benchmark
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.inference import QueryResults, QuerySpec, RegionPredictor, run_queries
from dynrefer.workbench.evaluation.metrics.caption_scores import cider_scores
from dynrefer.workbench.evaluation.metrics.recognition import attribute_metrics, top_hits
from dynrefer.workbench.evaluation.metrics.scene_metrics import scene_metrics
from dynrefer.workbench.evaluation.metrics.standard_errors import Estimate, mean, proportion
from dynrefer.workbench.evaluation.policies import MOST_VIEWS, Policy, arrangements, choose, fuse_results, passes
from dynrefer.workbench.evaluation.report.tables import grid_table, json_value

STUDY_REGIONS = 500
T_STEPS = tuple(step / 10 for step in range(11))
ONE_VIEW = "t = 0 only"

Metrics = Mapping[str, Estimate]


class Subject(Protocol):
    """Regions, the tasks that have ground truth for them, and their metrics."""

    @property
    def regions(self) -> Regions:
        """The regions to describe."""
        ...

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks to run."""
        ...

    def metrics(self, results: QueryResults) -> dict[str, Estimate]:
        """Name -> estimate, of the tasks in the results."""
        ...


@dataclass(frozen=True)
class SceneSubject:
    """Drawn scenes, with ground truth for every output."""

    regions: RegionSet
    tag_threshold: float
    tasks: tuple[Task, ...] = ALL_TASKS

    def metrics(self, results: QueryResults) -> dict[str, Estimate]:
        """As `scene_metrics`."""
        return scene_metrics(self.regions, results, self.tag_threshold)


@dataclass(frozen=True)
class LabelledSubject:
    """The regions of one benchmark and its metric: CIDEr-D (own tokenizer), attribute mAP, or accuracy."""

    benchmark: Benchmark
    regions: LabelledData
    tasks: tuple[Task, ...]

    def metrics(self, results: QueryResults) -> dict[str, Estimate]:
        """The benchmark's metric."""
        if self.benchmark is Benchmark.ATTRIBUTES:
            scores, targets = results.scores[Task.ATTRIBUTES], self.regions.attribute_targets
            return {"attribute_map": attribute_metrics(scores, targets, self.regions.attributes, {})["map"]}
        if self.benchmark is Benchmark.RECOGNITION:
            return {"class": proportion(top_hits(results.scores[Task.CATEGORIES], self.regions.category_targets))}
        return {"cider": mean(cider_scores(results.captions, [region.captions for region in self.regions.regions]))}


@dataclass(frozen=True)
class ViewStudy:
    """over_t: t of the second view -> metrics; t = 0 means one view only. policies: policy -> number of views ->
    metrics; `ONE_VIEW` holds those with one view."""

    over_t: Mapping[float, Metrics]
    policies: Mapping[str, Mapping[int, Metrics]]

    def joined(self, other: ViewStudy) -> ViewStudy:
        """The metrics of both studies, which must cover the same views and policies."""
        return ViewStudy(
            {t: {**metrics, **other.over_t[t]} for t, metrics in self.over_t.items()},
            {
                policy: {count: {**metrics, **other.policies[policy][count]} for count, metrics in counts.items()}
                for policy, counts in self.policies.items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "over_t": {f"{t:g}": _to_json(metrics) for t, metrics in self.over_t.items()},
            "policies": {
                policy: {str(count): _to_json(metrics) for count, metrics in counts.items()}
                for policy, counts in self.policies.items()
            },
        }

    def markdown(self) -> str:
        """Two tables: over t, and by policy where policies were compared."""
        over_t = {f"0, {t:g}" if t else "0": metrics for t, metrics in self.over_t.items()}
        by_policy = {
            f"{policy}, {count} view{'s' if count > 1 else ''}": metrics
            for policy, counts in self.policies.items()
            for count, metrics in counts.items()
        }
        tables = grid_table(over_t, "views (t)")
        return f"{tables}\n{grid_table(by_policy, 'policy')}" if by_policy else tables


def _to_json(metrics: Metrics) -> dict[str, dict[str, float | None]]:
    return {
        name: {"value": json_value(metric.value), "error": json_value(metric.error)} for name, metric in metrics.items()
    }


def study_views(
    predictor: RegionPredictor, subject: Subject, *, batch_regions: int, readers: int, most_views: int = MOST_VIEWS
) -> ViewStudy:
    """Run all choices of views together, so that they share view encodings.

    A model that fuses V views is run with fewer by repeating the last, with more in several passes
    (`policies.arrangements`).
    """
    slots = predictor.card.num_views
    specs: list[QuerySpec] = []

    def add(spec: QuerySpec) -> int:
        specs.append(spec)
        return len(specs) - 1

    # t -> index of its spec; (policy, count) -> groups of indices whose results are fused
    over_t = {t: add(QuerySpec(subject.tasks, arrangements((0.0, t) if t else (0.0,), slots)[0])) for t in T_STEPS}
    groups: dict[tuple[str, int], list[list[int]]] = {}
    for policy in Policy:
        for count in range(2, most_views + 1):
            wanted = [(task,) for task in subject.tasks] if policy is Policy.TASK_PRIOR else [subject.tasks]
            groups[policy.value, count] = [
                [add(QuerySpec(tasks, each)) for each in passes(choose(policy, count, tasks[0]), count, slots)]
                for tasks in wanted
            ]
    results = run_queries(predictor, subject.regions, specs, "views", batch_regions=batch_regions, readers=readers)
    metrics = {t: subject.metrics(results[place]) for t, place in over_t.items()}
    policies: dict[str, dict[int, Metrics]] = {ONE_VIEW: {1: metrics[0.0]}}
    for (name, count), places_of in groups.items():
        found: dict[str, Estimate] = {}
        for places in places_of:
            found |= subject.metrics(fuse_results([results[place] for place in places], subject.regions))
        policies.setdefault(name, {})[count] = found
    return ViewStudy(metrics, policies)

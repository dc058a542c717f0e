"""How many replicas there should be: by the regions that wait for a device or are on it, not by requests."""

import math
from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

METRIC = "regions"  # of `ModelReplica.record_autoscaling_stats`


class ByRegions:
    """A policy of Serve, which bounds and delays what it wants by the deployment's own settings.

    regions_per_replica: how many a replica should have.
    """

    def __init__(self, regions_per_replica: float) -> None:
        self._regions_per_replica = regions_per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """How many replicas, and nothing to remember."""
        metrics: Mapping[str, Mapping[Any, float]] = context.aggregated_metrics or {}
        regions = metrics.get(METRIC)
        if not regions:  # none has reported yet
            return context.target_num_replicas, {}
        return wanted_replicas(sum(regions.values()), self._regions_per_replica), {}


def wanted_replicas(regions: float, regions_per_replica: float) -> int:
    """At least one."""
    return max(1, math.ceil(regions / regions_per_replica))

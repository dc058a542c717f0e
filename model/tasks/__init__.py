"""The tasks: what can be requested for a region, one file each.

`TASKS` is the single list of them, in the order of answers. A new task is a file here and an entry in the tuple; names,
priors, thresholds, stage times, metrics labels, the API's fields and the command line's choices follow from it. A task
whose result is a new record needs a schema for that record as well (`service/api/schemas.py`).

No torch at import.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from dynrefer.model.tasks.attributes import AttributesTask
from dynrefer.model.tasks.caption import CaptionTask
from dynrefer.model.tasks.categories import CategoriesTask
from dynrefer.model.tasks.definition import TaskDefinition
from dynrefer.model.tasks.tags import TagsTask

TASKS: tuple[TaskDefinition[Any, Any], ...] = (
    CaptionTask(),
    TagsTask(),
    AttributesTask(),
    CategoriesTask(),
)

TASKS_BY_NAME: Mapping[str, TaskDefinition[Any, Any]] = {task.name: task for task in TASKS}


def with_needs(names: Iterable[str]) -> frozenset[str]:
    """Those tasks and every task whose outputs they need, directly or not."""
    found = frozenset(names)
    needed = found.union(*(TASKS_BY_NAME[name].needs for name in found))
    return found if needed == found else with_needs(needed)


# In the order in which a batch runs them: what a task needs comes before it.
RUN_ORDER = tuple(sorted(TASKS, key=lambda task: len(with_needs((task.name,)))))

# The stages of a batch whose times are reported, in order.
DEVICE_STAGES = ("vision", *dict.fromkeys(task.stage for task in RUN_ORDER))

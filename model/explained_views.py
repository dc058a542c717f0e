"""What explanations need of an image: the views of a region that could have been looked at, and its caption's views
once more, without one of them at a time. No torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.crops import ViewBatch, ViewCutter
from dynrefer.model.explanation import Explain, ExplainedView
from dynrefer.model.geometry import Box
from dynrefer.model.preparation import RegionInput
from dynrefer.model.types import Task, ViewPlan, ViewPolicy
from dynrefer.model.views import STEPS, GreyImage, nested_views, search_candidates

PROBED_TASKS = (Task.TAGS, Task.CATEGORIES)  # whose labels speak for the words of a caption
THUMBNAIL_SIDE = 128  # pixels, at most
THUMBNAIL_QUALITY = 80  # of WebP: about 3 KB for 128 x 128


def explained_views(
    grey: GreyImage, cutter: ViewCutter, box: Box, plans: Mapping[ViewPlan, tuple[str, ...]], explain: Explain
) -> tuple[ExplainedView, ...]:
    """The views of a region by t, beginning with t = 0. plans: each with the tasks that it is for.

    box: inside the image of `grey` and `cutter`.
    """
    chosen = {view.t for plan in plans for view in plan.views}
    steps = sorted((chosen | set(STEPS) if explain.candidates else chosen) - {0.0})
    tasks = {t: tuple(task for plan, some in plans.items() for task in some if _holds(plan, t)) for t in chosen}
    region, *candidates = search_candidates(grey, box, (0.0, *steps))
    views = [ExplainedView(0.0, region.box, region.hash, 0, None, tasks[0.0])]
    views += [
        ExplainedView(each.t, each.box, each.hash, each.distance, each.gain, tasks.get(each.t, ()))
        for each in candidates
    ]
    if not explain.thumbnails:
        return tuple(views)
    return tuple(_with_thumbnails(grey, cutter, box, views))


def with_probes(inputs: Sequence[RegionInput]) -> list[RegionInput]:
    """A region's inputs, which keep the scores of the attributes' prompts, and what explains its caption."""
    return [*(replace(each, prompts=Task.ATTRIBUTES in each.tasks) for each in inputs), *_probes(inputs)]


def _probes(inputs: Sequence[RegionInput]) -> Iterator[RegionInput]:
    """What the words of the caption are explained by: its views once more, and without each of them but t = 0; and
    likewise those of the categories, where these name the object for the whole region.

    The network needs all its views, so t = 0 stands in for the one that is left out: it shows the region again and
    nothing of what lies around it.
    """
    captioned = any(Task.CAPTION in each.tasks for each in inputs)
    for given in inputs:
        names_it = Task.CATEGORIES in given.tasks and given.evidence is not None  # see `identification.py`
        if Task.CAPTION in given.tasks or (captioned and names_it):
            for place in range(len(given.plan.views)):
                yield RegionInput(given.plan, PROBED_TASKS, _without(given.views, place), (), left_out=place)


def _without(views: ViewBatch, place: int) -> ViewBatch:
    """The views with the first one in this place."""
    order = [0 if each == place else each for each in range(len(views.images))]
    return ViewBatch(views.images[order], views.boxes[order], tuple(views.digests[each] for each in order))


def _holds(plan: ViewPlan, t: float) -> bool:
    return any(view.t == t for view in plan.views)


def _with_thumbnails(grey: GreyImage, cutter: ViewCutter, box: Box, views: list[ExplainedView]) -> list[ExplainedView]:
    cut = cutter.cut(ViewPlan(nested_views(box, grey.size, [each.t for each in views[1:]]), ViewPolicy.FIXED))
    return [replace(view, thumbnail=_webp(pixels)) for view, pixels in zip(views, cut.images, strict=True)]


def _webp(view: NDArray[np.uint8]) -> str:
    """A view (3, S, S) uint8 as a WebP file in Base64."""
    image = Image.fromarray(np.ascontiguousarray(view.transpose(1, 2, 0)))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=THUMBNAIL_QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")

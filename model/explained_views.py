"""Which views of a region could have been looked at, and which were: for explanations. No torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.crops import ViewCutter
from dynrefer.model.explanation import Explain, ExplainedView
from dynrefer.model.geometry import Box
from dynrefer.model.types import ViewPlan, ViewPolicy
from dynrefer.model.views import STEPS, GreyImage, nested_views, search_candidates

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

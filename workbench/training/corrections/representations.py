"""Region representations, computed once: all that heads and language model see of a region, so training them is cheap.

Tower, alignment, fusion and Q-Former stay as they are, so what they make of a region under one choice of views never
changes. Each region has a few choices: those that answers use, and random ones as in training (paper, section 3.2).

Shapes: N = regions, P = view plans of a region, V = views, Q = queries, C = channels, S = side of a view.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dynrefer.model.crops import ViewBatch, ViewCutter
from dynrefer.model.geometry import Box
from dynrefer.model.images import Pixels
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.types import Corners
from dynrefer.model.views import STEPS, GreyImage, plan_views
from dynrefer.workbench.data.regions import ImageRegions, Regions

LEAST_PLANS = 3
ANSWERS = 2  # plans of a region that answers use: the image prior, and one of the task priors in turn
_JITTER = 0.06  # of a box's side, in random plans: nobody draws a box twice in the same way
_CHUNK = 32  # regions that are encoded together


@torch.no_grad()
def represent_regions(network: DynReferModel, regions: Regions, plans: int, seed: int, title: str) -> Tensor:
    """(N, P, Q, C) float32 on the CPU. plans: P; the first `ANSWERS` are those of answers, the others random.

    A function of regions, seed and weights. Raises what reading an image raises.
    """
    rng, found = np.random.default_rng((seed, 1)), list[Tensor]()
    waiting: list[ViewBatch] = []
    with tqdm(total=len(regions), desc=title, unit="region", disable=None) as bar:
        for source in regions.image_regions():
            for views in _views_of_image(network, source, plans, rng):
                waiting += views
                if len(waiting) >= _CHUNK * plans:
                    found.append(_represented(network, waiting))
                    waiting = []
                bar.update()
    if waiting:
        found.append(_represented(network, waiting))
    whole: Tensor = torch.cat(found).unflatten(0, (-1, plans))
    return whole


def _views_of_image(
    network: DynReferModel, source: ImageRegions, plans: int, rng: np.random.Generator
) -> list[list[ViewBatch]]:
    image: Pixels = source.load()
    grey, cutter = GreyImage(image), ViewCutter(image, network.config.view_size)
    return [_cut_region(network, grey, cutter, box, plans, rng) for box in source.boxes]


def _cut_region(
    network: DynReferModel, grey: GreyImage, cutter: ViewCutter, box: Corners, plans: int, rng: np.random.Generator
) -> list[ViewBatch]:
    config, corners = network.config, Box(*box)
    priors = list(dict.fromkeys(map(tuple, config.task_priors.values())))
    prior = priors[int(rng.integers(len(priors)))]
    chosen = [
        plan_views(grey, corners, num_views=config.num_views),
        plan_views(grey, corners, num_views=config.num_views, task_prior=prior),
    ]
    for _ in range(plans - ANSWERS):
        others = rng.choice(STEPS, config.num_views - 1, replace=False).tolist()
        moved = _jittered(box, grey.size, rng)
        chosen.append(plan_views(grey, moved, num_views=config.num_views, views=(0.0, *others)))
    return [cutter.cut(plan) for plan in chosen]


def _jittered(box: Corners, size: tuple[int, int], rng: np.random.Generator) -> Box:
    x1, y1, x2, y2 = box
    shift = rng.uniform(-_JITTER, _JITTER, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    return Box(*(np.array(box) + shift).tolist()).clip(size)


def _represented(network: DynReferModel, regions: Sequence[ViewBatch]) -> Tensor:
    """Views that several plans share are encoded once."""
    places: dict[bytes, int] = {}
    images, index = list[NDArray[np.uint8]](), list[int]()
    for views in regions:
        for image, digest in zip(views.images, views.digests, strict=True):
            if digest not in places:
                places[digest] = len(images)
                images.append(image)
            index.append(places[digest])
    device = network.query_tokens.device
    features = network.encode_in_parts(torch.from_numpy(np.stack(images)).to(device))
    boxes = torch.from_numpy(np.stack([views.boxes for views in regions])).to(device)
    taken = features.take(torch.tensor(index, device=device))
    return network.represent_in_parts(taken, boxes).float().cpu()

"""Which places of the finder's map answer for which object: those near its middle, as in FCOS's centre sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dynrefer.model.networks.finder.network import STRIDE, places_of

_LEAST_REACH = 1.0  # strides from an object's middle
_REACH = 0.16  # the same, relative to the object's sides


class Assignment(NamedTuple):
    """P places that answer for an object. image, row, column, object: (P,) int64 each."""

    image: Tensor
    row: Tensor
    column: Tensor
    object: Tensor


def assign(boxes: Tensor, image: Tensor, height: int, width: int) -> Assignment:
    """boxes: (M, 4) float32 xyxy in pixels, image: (M,) int64. The map has (height, width) places.

    A place near the middles of several objects answers for the smallest; every object has at least the place that is
    nearest to its middle, unless a smaller one has that.
    """
    if not len(boxes):
        empty = boxes.new_zeros(0, dtype=torch.int64)
        return Assignment(empty, empty, empty, empty)
    points = places_of(height, width).flatten(0, 1)  # (h * w, 2)
    middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    off = (points[None] - middles[:, None]).abs()  # (M, h * w, 2)
    reach = (sides * _REACH).clamp(min=_LEAST_REACH * STRIDE)[:, None]
    near = (off < reach).all(-1) & (off < sides[:, None] / 2).all(-1)
    near[torch.arange(len(boxes)), off.sum(-1).argmin(dim=1)] = True
    area = sides.prod(-1)[:, None].expand_as(near).masked_fill(~near, torch.inf)
    found = []
    for index in image.unique().tolist():
        own = torch.nonzero(image == index)[:, 0]
        best = area[own].min(dim=0)
        place = torch.nonzero(best.values.isfinite())[:, 0]
        found.append(
            torch.stack([torch.full_like(place, index), place // width, place % width, own[best.indices[place]]])
        )
    return Assignment(*torch.cat(found, dim=1))


def middle_places(where: Assignment) -> tuple[Tensor, Tensor]:
    """The objects that have places, (N,) int64 ascending, and of each its middle one in the order of rows, (N,) int64
    into `where`."""
    order = where.object.argsort(stable=True)
    objects, counts = where.object[order].unique_consecutive(return_counts=True)
    return objects, order[counts.cumsum(0) - counts + counts // 2]

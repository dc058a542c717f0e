"""What arrives: sizes of images, regions of a request, and when requests come."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_REGIONS = 64  # of a request, as in the service's settings
BLOCK = 4096  # draws at a time


@dataclass(frozen=True)
class ImageSize:
    """share: of the requests."""

    megapixels: float
    share: float


@dataclass(frozen=True)
class Mix:
    """regions: the mean number of regions in a request; they are geometric, from one up, at most MOST_REGIONS."""

    sizes: tuple[ImageSize, ...]
    regions: float

    def __post_init__(self) -> None:
        if not math.isclose(sum(each.share for each in self.sizes), 1):
            raise ValueError("the shares of the image sizes must add up to 1.")
        if not 1 <= self.regions <= MOST_REGIONS:
            raise ValueError(f"regions per request must be from 1 to {MOST_REGIONS}.")

    def mean_over_sizes(self, of: Callable[[float], float]) -> float:
        """The mean of a function of the megapixels over the requests."""
        return sum(each.share * of(each.megapixels) for each in self.sizes)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(places in `sizes`, numbers of regions) of so many requests."""
        sizes = rng.choice(len(self.sizes), size=count, p=[each.share for each in self.sizes])
        regions = np.minimum(rng.geometric(1 / self.regions, size=count), MOST_REGIONS)
        return sizes, regions


# An assumption, no measurement: pictures as they stand in data sets and on pages (COCO's 640 x 480), pictures of a
# screen's size, and what telephones take. The mean of four regions lies between the one that a person points at and the
# 7.7 objects of an image of COCO (Lin et al. 2014, arXiv:1405.0312).
WEB = Mix((ImageSize(0.3, 0.6), ImageSize(2.0, 0.3), ImageSize(12.0, 0.1)), regions=4.0)

# Requests per second by time, relative to the mean.
Shape = Callable[[float], float]


def steady(time: float) -> float:
    """Always the mean: a Poisson process."""
    return 1.0


def daily(period_s: float, swing: float = 0.6) -> Shape:
    """A day as one wave: between 1 - swing and 1 + swing times the mean."""
    return lambda time: 1 + swing * math.sin(2 * math.pi * time / period_s)


def bursts(every_s: float, length_s: float, factor: float) -> Shape:
    """Every so often, `factor` times the rate of the rest for a while; the mean stays 1."""
    rest = 1 / (1 + (factor - 1) * length_s / every_s)
    return lambda time: rest * (factor if time % every_s < length_s else 1)


def arrivals(
    rng: np.random.Generator, rate: float, mix: Mix, until: float, shape: Shape = steady, most: float = 1.0
) -> Iterator[tuple[float, int, int]]:
    """(time, place in the mix's sizes, regions) of an open loop, in order: requests come whether or not others are
    answered. rate: the mean, per second. most: the largest value of the shape; candidates are drawn at that and thinned
    (Lewis and Shedler 1979)."""
    if rate <= 0:
        raise ValueError("the rate of arrivals must be positive.")
    time = 0.0
    while True:
        gaps = rng.exponential(1 / (rate * most), size=BLOCK)
        kept = rng.random(BLOCK)
        sizes, regions = mix.draw(rng, BLOCK)
        for gap, keep, size, count in zip(gaps.tolist(), kept.tolist(), sizes.tolist(), regions.tolist(), strict=True):
            time += gap
            if time >= until:
                return
            if keep * most < shape(time):
                yield time, size, count


def repeated(requests: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(place in the mix's sizes, regions) of a closed loop's requests, again and again."""
    while True:
        yield from requests

"""The sampler against its formulas, computed point by point in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.networks.converse.ferret.region_points import RegionPoints, region_points
from dynrefer.model.networks.converse.ferret.sampler import RegionSampler
from dynrefer.model.types import RegionQuery

WIDTH, LANGUAGE, KEPT, NEAREST, POINTS = 6, 10, (16, 4), (5, 3), 40
SIZE = (50, 30)

Floats = NDArray[np.float64]


@pytest.fixture
def sampler() -> RegionSampler:
    torch.manual_seed(3)
    module = RegionSampler(LANGUAGE, WIDTH, KEPT)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.requires_grad_(False)


def bilinear(referring: Floats, x: float, y: float) -> Floats:
    """The map's value at a point of the image, cells beyond its edge being those at the edge."""
    _, height, width = referring.shape
    across, down = x * width - 0.5, y * height - 0.5
    left, top = int(np.floor(across)), int(np.floor(down))
    found = np.zeros(len(referring))
    for row, share in ((top, 1 - (down - top)), (top + 1, down - top)):
        for column, part in ((left, 1 - (across - left)), (left + 1, across - left)):
            cell = referring[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            found += share * part * cell
    return found


def by_formula(sampler: RegionSampler, referring: Floats, region: RegionPoints) -> Floats:
    """One point after the other."""
    weights = {name: value.double().numpy() for name, value in sampler.state_dict().items()}
    points = [np.array(point) for point in region.points]
    features = [weights["reduce.weight"] @ bilinear(referring, *point) for point in points]
    for number, stage in enumerate(region.stages):
        name = f"stages.{number}"
        made = []
        for centre, neighbours in zip(stage.centres, stage.neighbours, strict=True):
            anchor = np.concatenate([features[centre], points[centre]])
            rows = []
            for neighbour in neighbours:
                offset = np.concatenate([features[neighbour], points[neighbour]]) - anchor
                difference = weights[f"{name}.difference.weight"] @ offset + weights[f"{name}.difference.bias"]
                both = np.concatenate([difference, anchor])
                row = np.maximum(weights[f"{name}.gather.weight"] @ both + weights[f"{name}.gather.bias"], 0)
                row = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
                rows.append(row * weights[f"{name}.norm.weight"] + weights[f"{name}.norm.bias"])
            made.append(np.max(rows, axis=0))
        points = [points[centre] for centre in stage.centres]
        features = made
    flat = weights["flatten.weight"] @ np.concatenate(features) + weights["flatten.bias"]
    return weights["project.weight"] @ flat + weights["project.bias"]


@pytest.mark.parametrize("shape", ["one pixel", "a line", "everything", "a box"])
def test_a_region_of_any_shape_gives_the_feature_of_the_formulas(sampler: RegionSampler, shape: str) -> None:
    bitmap = np.zeros((SIZE[1], SIZE[0]), bool)
    bitmap[{"one pixel": (7, 9), "a line": (slice(None), 9)}.get(shape, slice(None))] = True
    mask = None if shape == "a box" else mask_from_bitmap(bitmap)
    region = region_points(RegionQuery(box=(3.5, 2, 20, 28), mask=mask), SIZE, POINTS, KEPT, NEAREST)
    referring = np.random.default_rng(0).standard_normal((LANGUAGE, 5, 8))
    found = sampler(torch.from_numpy(referring).float(), region)
    assert found.shape == (LANGUAGE,)
    np.testing.assert_allclose(found.numpy(), by_formula(sampler, referring, region), rtol=1e-3, atol=1e-4)


def test_the_feature_depends_on_where_the_region_is(sampler: RegionSampler) -> None:
    referring = torch.from_numpy(np.random.default_rng(0).standard_normal((LANGUAGE, 5, 8))).float()
    boxes = [(3.5, 2, 20, 28), (30, 2, 46.5, 28)]
    first, second = (
        sampler(referring, region_points(RegionQuery(box=box), SIZE, POINTS, KEPT, NEAREST)) for box in boxes
    )
    assert (first - second).abs().max() > 0.1

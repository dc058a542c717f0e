"""The small segmenter: its parts, with random weights; how good the trained ones are is benchmarks/segmentation.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dynrefer.model.errors import ModelNotFoundError, StoppedError, WeightsError
from dynrefer.model.networks.convolutional_weights import folded
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.model.networks.segmenter.network import SIDE, MaskHead
from dynrefer.model.networks.segmenter.prompts import paint_box, paint_clicks
from dynrefer.model.networks.segmenter.small import (
    WEIGHTS,
    SmallSegmenter,
    carried_over,
    closest_pixels,
    kept_parts,
    load_head,
)
from dynrefer.model.points import PointPrompt
from dynrefer.model.segmentation import ImageWindow, PointedRegion
from dynrefer.model.types import RegionQuery

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with random weights that a few forward passes have given statistics to."""
    torch.manual_seed(0)
    head = MaskHead()
    for _ in range(3):
        head(torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8), torch.rand(4, 4, SIDE, SIDE))
    folder = tmp_path_factory.mktemp("model") / "segmenter"
    folder.mkdir()
    floats = {name: value for name, value in head.state_dict().items() if value.is_floating_point()}
    save_file({name: value.half() for name, value in floats.items()}, folder / WEIGHTS)
    return folder


def regions(segmenter: SmallSegmenter, count: int) -> list[PointedRegion]:
    rng = np.random.default_rng(count)
    image = rng.integers(0, 256, (300, 400, 3), np.uint8)
    places = rng.uniform(0, 300, (count, 2)).tolist()
    queries = [RegionQuery((0, 0, 0, 0), points=(PointPrompt(x, y), PointPrompt(5, 5, False))) for x, y in places]
    return list(segmenter.spec.prepare_each(image, queries))


def test_a_regions_mask_does_not_depend_on_its_batch(folder: Path) -> None:
    segmenter = SmallSegmenter.load(folder)
    given = regions(segmenter, 4)
    together = segmenter.segment(given, lambda: False)
    alone = [segmenter.segment([region], lambda: False)[0] for region in reversed(given)]
    for one, two in zip(together, reversed(alone), strict=True):
        assert one.corners == two.corners and np.array_equal(one.logits, two.logits)


def test_a_box_is_looked_at_closely_and_held_whole(folder: Path) -> None:
    segmenter = SmallSegmenter.load(folder)
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    (region,) = segmenter.spec.prepare_boxes(image, [(100, 120, 180, 200)])
    (found,) = segmenter.segment([region], lambda: False)
    x1, y1, x2, y2 = found.corners
    assert x1 <= 100 and y1 <= 120 and x2 >= 180 and y2 >= 200


def test_a_batch_that_nobody_waits_for_stops(folder: Path) -> None:
    segmenter = SmallSegmenter.load(folder)
    with pytest.raises(StoppedError):
        segmenter.segment(regions(segmenter, 2), lambda: True)


def test_folding_the_normalisations_changes_nothing_but_rounding(folder: Path) -> None:
    pixels, prompt = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8), torch.rand(2, 4, SIDE, SIDE)
    with torch.inference_mode():
        before, after = load_head(folder)(pixels, prompt), folded(load_head(folder))(pixels, prompt)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded(load_head(folder)).modules())
    torch.testing.assert_close(after.mask, before.mask, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after.quality, before.quality, rtol=1e-4, atol=1e-4)


def test_clicks_are_disks_in_their_own_channel() -> None:
    channels = torch.zeros(2, 2, 32, 32)
    at, both = torch.tensor([[10, 20], [0, 31]]), torch.tensor([True, True])
    paint_clicks(channels, at, torch.tensor([True, False]), both)
    assert channels[0, 0, 10, 20] == 1 and channels[0, 0, 10, 23] == 1 and channels[0, 0, 10, 24] == 0
    assert channels[0, 1].sum() == 0 and channels[1, 0].sum() == 0
    assert channels[1, 1, 0, 31] == 1 and channels[1, 1, 31, 0] == 0
    paint_clicks(channels, at, torch.tensor([True, True]), torch.tensor([False, False]))
    assert channels[1, 0].sum() == 0


def test_a_box_is_filled_and_none_is_empty() -> None:
    painted = paint_box(torch.tensor([[0.25, 0.5, 0.75, 1.2], [float("nan")] * 4]), 8)
    assert painted[0, 0, 4:, 2:6].all() and painted[0].sum() == 16
    assert painted[1].sum() == 0


def test_only_parts_that_a_click_lies_in_are_kept() -> None:
    logits = torch.full((SIDE, SIDE), -2.0)
    logits[10:20, 10:20] = 3
    logits[50:60, 50:60] = 3
    kept = kept_parts(logits, [((15, 15), True), ((55, 55), False)]) > 0
    assert kept[10:20, 10:20].all() and kept.sum() == 100
    assert torch.equal(kept_parts(logits, [((90, 90), True)]), logits)


def test_what_is_known_of_one_window_is_carried_over_to_another() -> None:
    values = torch.zeros(8, 8)
    values[4:, 4:] = 1
    inside = carried_over(values, (0, 0, 80, 80), (40, 40, 80, 80))
    assert inside[1:-1, 1:-1].eq(1).all()
    beyond = carried_over(values, (0, 0, 80, 80), (80, 80, 160, 160))
    assert beyond[1:, 1:].eq(0).all()


def test_a_closer_window_is_cut_from_the_closest_that_holds_it() -> None:
    whole, middle = (np.full((256, 256, 3), value, dtype=np.uint8) for value in (10, 200))
    windows = [ImageWindow(whole, (0, 0, 800, 800), b""), ImageWindow(middle, (200, 200, 600, 600), b"")]
    assert (closest_pixels(windows, (250, 250, 500, 500)) == 200).all()
    assert (closest_pixels(windows, (150, 250, 500, 500)) == 10).all()


def test_which_segmenter_is_loaded(folder: Path, tmp_path: Path) -> None:
    assert isinstance(load_segmenter("embedded", folder.parent, CPU), SmallSegmenter)
    assert load_segmenter("none", folder.parent, CPU) is None
    assert load_segmenter("embedded", tmp_path, CPU) is None  # a model without one


def test_weights_of_another_kind_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="weights of the segmenter"):
        load_head(tmp_path)
    tensors = {name: value.half() for name, value in MaskHead().state_dict().items() if value.is_floating_point()}
    save_file(tensors | {"mask.weight": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match=r"'mask.weight' of .* has the shape \[1\]"):
        load_head(tmp_path)
    del tensors["mask.weight"]
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match="lacks 'mask.weight'"):
        load_head(tmp_path)

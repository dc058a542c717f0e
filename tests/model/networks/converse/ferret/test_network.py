"""The parts put together: features of an image and of a region."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dynrefer.model.networks.converse.ferret.network import FerretModel
from dynrefer.model.networks.dynrefer.config import CLIP_MEAN, CLIP_STD
from tests.model.networks.converse.ferret.random_model import REGIONS, conversation, converser, picture, spread_model

SIZE = (160, 100)


@pytest.fixture(scope="module")
def model() -> FerretModel:
    return spread_model()


def views_of(model: FerretModel) -> torch.Tensor:
    (turn,) = model.config.spec.prepare_each(picture(), [conversation("What?")])
    return torch.from_numpy(turn.pixels).unflatten(0, (-1, 56)).permute(0, 3, 1, 2)


@torch.inference_mode()
def test_tokens_are_the_whole_then_the_joined_tiles_and_the_map_is_their_sum(model: FerretModel) -> None:
    views = views_of(model)
    features = model.image_features(views, SIZE)
    grid, (rows, columns) = model.config.spec.grid(SIZE), model.config.spec.cells(SIZE)
    assert grid is not None and len(views) == 1 + grid.tiles
    mean, deviation = (np.array(each)[:, None, None] for each in (CLIP_MEAN, CLIP_STD))
    pixels = torch.from_numpy((views[0].numpy() / 255 - mean) / deviation).float()
    hidden = model.whole.tower(pixels[None], output_hidden_states=True).last_hidden_state[0, 1:]
    whole = model.whole.project(hidden)
    assert torch.allclose(features.tokens[:16], whole, atol=1e-5)
    assert features.tokens.shape == (16 + rows * columns, 64)
    tiles = features.tokens[16:].view(rows, columns, 64)
    raised = F.interpolate(whole.view(4, 4, 64).permute(2, 0, 1)[None], size=(rows, columns), mode="bilinear")[0]
    assert torch.allclose(features.referring, raised + tiles.permute(2, 0, 1), atol=1e-5)


@torch.inference_mode()
def test_a_tile_is_seen_where_it_lies(model: FerretModel) -> None:
    """Changing one tile changes its cells and no others."""
    views = views_of(model)
    grid = model.config.spec.grid(SIZE)
    assert grid is not None
    changed = views.clone()
    changed[1 + grid.columns] = 255 - changed[1 + grid.columns]  # the second row's first
    before, after = (model.image_features(each, SIZE).referring for each in (views, changed))
    differs = (before != after).any(dim=0)
    assert differs[4:8, :4].all()
    differs[4:8, :4] = False
    assert not differs.any()


@torch.inference_mode()
def test_clip_is_left_before_its_last_layer(model: FerretModel) -> None:
    assert len(model.whole.tower.encoder.layers) == model.config.whole_config.num_hidden_layers - 1
    assert not any("layers.2" in name for name in model.whole.tower.state_dict())


@torch.inference_mode()
def test_without_grids_there_is_no_tower_for_tiles() -> None:
    low = spread_model(grids=[])
    assert low.tiles is None
    features = low.image_features(views_of(low), SIZE)
    assert features.tokens.shape == (16, 64)
    assert low.region_feature(features, REGIONS[0].query, SIZE).isfinite().all()


@torch.inference_mode()
def test_regions_have_features_of_their_own(model: FerretModel) -> None:
    features = model.image_features(views_of(model), SIZE)
    first, second = (model.region_feature(features, each.query, SIZE) for each in REGIONS)
    assert first.shape == (64,)
    assert (first - second).abs().max() > 1e-3


def test_a_speaker_has_the_model_s_specification(model: FerretModel) -> None:
    assert converser(model).spec == model.config.spec

"""The referring map on arrays small enough to write down."""

import numpy as np
import torch

from dynrefer.model.networks.converse.ferret.grids import Grid
from dynrefer.model.networks.converse.ferret.referring_map import at_points, joined_tiles, merged_map


def test_tiles_lie_beside_each_other_as_the_image_was_cut() -> None:
    tiles = torch.arange(6 * 4).float().view(6, 1, 2, 2)  # three across, two down
    assert joined_tiles(tiles, Grid(3, 2), (4, 6))[0].tolist() == [
        [0, 1, 4, 5, 8, 9],
        [2, 3, 6, 7, 10, 11],
        [12, 13, 16, 17, 20, 21],
        [14, 15, 18, 19, 22, 23],
    ]


def test_what_of_the_canvas_is_no_image_is_left_out() -> None:
    tiles = torch.arange(8).float().view(2, 1, 2, 2)
    assert joined_tiles(tiles, Grid(2, 1), (1, 3))[0].tolist() == [[0, 1, 4]]


def test_the_whole_is_scaled_up_bilinearly_and_added() -> None:
    whole = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    tiles = torch.full((1, 4, 4), 100.0)
    # Centres of four cells lie at -1/4, 1/4, 3/4 and 5/4 between those of two; beyond the outermost nothing changes.
    across = np.array([0.0, 1.0, 3.0, 4.0])
    expected = 100 + across[None, :] + 2 * across[:, None]
    np.testing.assert_allclose(merged_map(whole, tiles)[0].numpy(), expected, atol=1e-6)


def test_without_tiles_the_whole_is_the_map() -> None:
    whole = torch.arange(4).half().view(1, 2, 2)
    found = merged_map(whole, None)
    assert found.dtype == torch.float32
    assert torch.equal(found, whole.float())


def test_points_are_sampled_between_the_centres_of_cells() -> None:
    referring = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    points = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.0, 1.0], [0.5, 0.25]])
    assert at_points(referring, points)[:, 0].tolist() == [0, 4, 6, 8, 2]

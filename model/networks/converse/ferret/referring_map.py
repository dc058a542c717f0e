"""The referring map: what is where on the image, from its tiles in detail and from the whole of it in context.

Ferret-v2 lays the tiles' maps beside each other as the tiles lie, scales the map of the whole image up to the same
size, and adds both. Source: section 3.2 of the paper (arXiv 2404.07973).

Shapes: T = tiles, D = channels, h w = cells of a tile's map, H W = cells of the referring map, those on the image.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from dynrefer.model.networks.converse.ferret.grids import Grid


def joined_tiles(maps: Tensor, grid: Grid, cells: tuple[int, int]) -> Tensor:
    """Maps (T, D, h, w) of tiles, left to right and row by row -> (D, H, W). cells: (H, W), what of it lies on the
    image; the rest of the canvas is left out."""
    side = maps.shape[2:]
    rows = maps.unflatten(0, (grid.rows, grid.columns))  # (rows, columns, D, h, w)
    whole: Tensor = rows.permute(2, 0, 3, 1, 4).reshape(maps.shape[1], grid.rows * side[0], grid.columns * side[1])
    return whole[:, : cells[0], : cells[1]]


def merged_map(whole: Tensor, tiles: Tensor | None) -> Tensor:
    """whole: (D, h, w) of the low-resolution view. tiles: (D, H, W) of `joined_tiles`; None: there are none.
    -> (D, H, W), in float32."""
    if tiles is None:
        return whole.float()
    raised = F.interpolate(whole[None].float(), size=tiles.shape[1:], mode="bilinear", align_corners=False)[0]
    return raised + tiles.float()


def at_points(referring: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of a map (D, H, W) at points (N, 2), x and y as parts of the image -> (N, D) float32.

    A cell's value is that of its centre; beyond the outermost centres the nearest cell's holds.
    """
    grid = (2 * points.to(torch.float32) - 1)[None, None]  # (1, 1, N, 2)
    found = F.grid_sample(referring[None].float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found[0, :, 0].transpose(0, 1)

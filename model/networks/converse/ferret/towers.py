"""The two towers: CLIP sees the whole image and knows words, DINOv2 sees the tiles and knows parts; a projector each.

Source: "multi-granularity visual encoding", section 3.2 of Ferret-v2 (arXiv 2404.07973); the two-layer projector and
CLIP's last layer but one are those of LLaVA-1.5 (arXiv 2310.03744), which it builds on.

Shapes: V = views, S = side of a view in pixels, C = channels of the tower, D = width of the language model,
h w = cells of a view's map.
"""

from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModel, Dinov2Model

from dynrefer.model.errors import ConfigError


class ViewTower(nn.Module):
    """A tower and its projector.

    tower: a model of transformers whose `last_hidden_state` has one token per class and then one per patch, row by row.
    """

    def __init__(self, tower: nn.Module, width: int, language_width: int) -> None:
        super().__init__()
        self.tower = tower
        self.project = nn.Sequential(
            nn.Linear(width, language_width), nn.GELU(), nn.Linear(language_width, language_width)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(V, 3, S, S), normalised -> (V, D, h, w)."""
        hidden = self.tower(pixel_values=pixels).last_hidden_state[:, 1:]  # (V, h * w, C)
        side = round(hidden.shape[1] ** 0.5)
        if side * side != hidden.shape[1]:
            raise ConfigError(f"a tower gives {hidden.shape[1]} patches, which is not a square grid.")
        projected: Tensor = self.project(hidden).transpose(1, 2).unflatten(2, (side, side))
        return projected


def whole_tower(config: Any, layers_unused: int, language_width: int) -> ViewTower:
    """CLIP, without its last layers, as many as `layers_unused`. config: a `CLIPVisionConfig`."""
    tower = CLIPVisionModel(config)
    layers: nn.ModuleList = tower.encoder.layers
    del layers[len(layers) - layers_unused :]
    return ViewTower(tower, config.hidden_size, language_width)


def tile_tower(config: Any, language_width: int) -> ViewTower:
    """DINOv2. config: a `Dinov2Config`; positions of another `image_size` are interpolated."""
    return ViewTower(Dinov2Model(config), config.hidden_size, language_width)

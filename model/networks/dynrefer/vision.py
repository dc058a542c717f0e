"""The vision tower: any class of transformers that the configuration names, with a feature map as its output.

Shapes: N = views, C = channels, H W = the feature map, P = patches, S = side of a view in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, Blip2VisionConfig, Blip2VisionModel

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config import DynReferConfig, vision_width


@dataclass(frozen=True)
class VisionFeatures:
    """map: (N, C, H, W). cls: (N, C), or None for a tower without a class token."""

    map: Tensor
    cls: Tensor | None

    def take(self, index: Tensor) -> "VisionFeatures":
        """The features of the views at `index` (M,) int64, repeats allowed."""
        return VisionFeatures(self.map[index], None if self.cls is None else self.cls[index])

    def at(self, place: int) -> "VisionFeatures":
        """A copy of one view's features, (1, C, H, W) and (1, C)."""
        part = slice(place, place + 1)
        return VisionFeatures(self.map[part].clone(), None if self.cls is None else self.cls[part].clone())

    def split(self, views: int) -> list["VisionFeatures"]:
        """Parts of so many views, the last one possibly shorter; not copied."""
        maps = self.map.split(views)
        tokens = [None] * len(maps) if self.cls is None else self.cls.split(views)
        return [VisionFeatures(*part) for part in zip(maps, tokens, strict=True)]

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        return self.map.nbytes + (0 if self.cls is None else self.cls.nbytes)

    @staticmethod
    def join(parts: Sequence["VisionFeatures"]) -> "VisionFeatures":
        """The parts concatenated; all of the same tower."""
        if len(parts) == 1:
            return parts[0]
        tokens = [part.cls for part in parts if part.cls is not None]
        return VisionFeatures(torch.cat([part.map for part in parts]), torch.cat(tokens) if tokens else None)


class VisionEncoder(nn.Module):
    """Views -> normalised feature maps.

    `Blip2VisionModel` gives (N, 1 + P, C) with a class token and carries its own final norm (`ln_vision` of the
    official code). Any other tower, one that gives (N, C, H, W) too, gets a LayerNorm over channels of ours.
    """

    def __init__(self, config: DynReferConfig) -> None:
        super().__init__()
        if isinstance(config.vision_config, Blip2VisionConfig):
            if config.vision_config.image_size not in (config.view_size, [config.view_size] * 2):
                raise ConfigError(
                    f"vision_config.image_size is {config.vision_config.image_size} but view_size is "
                    f"{config.view_size}; make them equal."
                )
            self.tower: nn.Module = Blip2VisionModel(config.vision_config)
            self.tower.post_layernorm.eps = config.vision_norm_eps  # the class knows only the blocks' epsilon
            self.norm: nn.Module = nn.Identity()
        else:
            self.tower = AutoModel.from_config(config.vision_config)
            self.norm = nn.LayerNorm(vision_width(config), eps=config.vision_norm_eps)

    def forward(self, pixels: Tensor) -> VisionFeatures:
        """pixels: (N, 3, S, S), normalised. Raises `ConfigError` if the tower's tokens are no square grid."""
        hidden = self.tower(pixel_values=pixels).last_hidden_state
        if hidden.ndim == 4:  # (N, C, H, W)
            hidden = self.norm(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return VisionFeatures(hidden, None)
        hidden = self.norm(hidden)  # (N, 1 + P, C) or (N, P, C)
        has_class_token = round(hidden.shape[1] ** 0.5) ** 2 != hidden.shape[1]
        patches = hidden[:, 1:] if has_class_token else hidden
        side = round(patches.shape[1] ** 0.5)
        if side * side != patches.shape[1]:
            raise ConfigError(f"vision_config gives {patches.shape[1]} patches, which is not a square grid.")
        grid = patches.transpose(1, 2).unflatten(2, (side, side))  # (N, C, H, W)
        return VisionFeatures(grid, hidden[:, 0] if has_class_token else None)


def normalise(images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, 3, S, S) uint8 -> ((u8 / 255) - mean) / std, computed in float32 as the official processor does."""
    pixels = images.to(torch.float32) * (1 / 255)  # multiplied, not divided: the same last bit as the official one
    return ((pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)).to(dtype)

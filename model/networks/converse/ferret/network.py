"""Ferret-v2, assembled: views of an image -> tokens and a referring map; regions -> features; both among the words of a
causal language model.

Source: figure 3 of the paper (arXiv 2404.07973). Decoding is `converser.py`'s.

Shapes: V = views, the first of the whole image, S = side of a view in pixels, D = width of the language model,
H W = cells of the referring map, L = tokens, Y = vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init

from dynrefer.model.geometry import ImageSize
from dynrefer.model.network_building import TURNS
from dynrefer.model.networks.converse.ferret.config import IMAGENET_MEAN, IMAGENET_STD, FerretConfig
from dynrefer.model.networks.converse.ferret.referring_map import joined_tiles, merged_map
from dynrefer.model.networks.converse.ferret.region_points import region_points
from dynrefer.model.networks.converse.ferret.sampler import RegionSampler
from dynrefer.model.networks.converse.ferret.towers import tile_tower, whole_tower
from dynrefer.model.networks.dynrefer.config import CLIP_MEAN, CLIP_STD
from dynrefer.model.networks.dynrefer.vision import normalise
from dynrefer.model.types import RegionQuery


@dataclass(frozen=True)
class ImageFeatures:
    """tokens: (L, D), the whole image's cells row by row, then those of the joined tiles that lie on the image.
    referring: (D, H, W) float32."""

    tokens: Tensor
    referring: Tensor

    @property
    def nbytes(self) -> int:
        """Of both."""
        return self.tokens.nbytes + self.referring.nbytes


class FerretModel(PreTrainedModel):
    """Ferret-v2 as a transformers model; `save_pretrained`, `from_pretrained`, `dtype` as usual."""

    config: FerretConfig
    config_class = FerretConfig
    base_model_prefix = "ferret"
    main_input_name = "views"
    _supports_sdpa = True
    _no_split_modules = ["CLIPEncoderLayer", "Dinov2Layer", "LlamaDecoderLayer"]

    def __init__(self, config: FerretConfig) -> None:
        super().__init__(config)
        width = config.language_config.hidden_size
        self.whole = whole_tower(config.whole_config, config.layers_unused, width)
        self.tiles = tile_tower(config.tile_config, width) if config.grids else None
        self.sampler = RegionSampler(width, config.sampler_width, config.sampler_kept)
        self.language: Any = AutoModelForCausalLM.from_config(config.language_config)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def get_init_context(cls, dtype: torch.dtype, *arguments: Any, **named: Any) -> list[Any]:
        """What `from_pretrained` builds a network in: as transformers has it, without drawing random weights, and while
        no other network computes."""
        usual = super().get_init_context(dtype, *arguments, **named)
        return [TURNS.building(dtype), *usual, init.no_init_weights()]

    def image_features(self, views: Tensor, size: ImageSize) -> ImageFeatures:
        """views: (V, 3, S, S) uint8, as `FerretSpec` cuts them. size: (width, height) of the upright image."""
        spec, dtype = self.config.spec, self.sampler.reduce.weight.dtype
        whole = self.whole(_normalised(views[:1], CLIP_MEAN, CLIP_STD, dtype))[0]  # (D, h, w)
        grid = spec.grid(size)
        if grid is None or self.tiles is None:
            return ImageFeatures(_in_rows(whole), merged_map(whole, None))
        maps = self.tiles(_normalised(views[1:], IMAGENET_MEAN, IMAGENET_STD, dtype))
        joined = joined_tiles(maps, grid, spec.cells(size))
        return ImageFeatures(torch.cat((_in_rows(whole), _in_rows(joined))), merged_map(whole, joined))

    def region_feature(self, features: ImageFeatures, query: RegionQuery, size: ImageSize) -> Tensor:
        """(D,) of a region. Raises `BoxError` for a mask without pixels."""
        config = self.config
        points = region_points(query, size, config.sampler_points, config.sampler_kept, config.sampler_neighbours)
        found: Tensor = self.sampler(features.referring, points)
        return found

    def forward(self, embeddings: Tensor, **named: Any) -> Any:
        """The language model on embeddings (R, L, D); `named` as its own."""
        return self.language(inputs_embeds=embeddings, **named)

    def get_input_embeddings(self) -> Any:
        """The words'."""
        return self.language.get_input_embeddings()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """The language model's tied matrices; transformers looks for them among direct children only."""
        tied = self.language.get_expanded_tied_weights_keys(all_submodels=False)
        return {f"language.{target}": f"language.{source}" for target, source in tied.items()}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Random weights for our own parts; those of transformers initialise themselves."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


def _normalised(
    views: Tensor, mean: tuple[float, float, float], deviation: tuple[float, float, float], dtype: torch.dtype
) -> Tensor:
    middle, spread = (torch.tensor(each, device=views.device) for each in (mean, deviation))
    return normalise(views, middle, spread, dtype)


def _in_rows(cells: Tensor) -> Tensor:
    """(D, H, W) -> (H * W, D)."""
    return cells.flatten(1).transpose(0, 1)

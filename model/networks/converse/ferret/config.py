"""A Ferret-v2's configuration: both towers, the sampler, the language model and the words around messages, as data.

A `transformers` configuration, so that `save_pretrained` and `from_pretrained` work. Sources: Ferret-v2 (arXiv
2404.07973), Ferret (arXiv 2310.07704), and the released configurations of CLIP ViT-L/14-336, DINOv2-L and Vicuna-7B
v1.5. Ferret-v2 itself was never released, neither code nor weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, CLIPVisionConfig, Dinov2Config, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.converse.ferret.grids import GRIDS, Grid
from dynrefer.model.networks.converse.ferret.preparation import FerretSpec
from dynrefer.model.networks.dynrefer.config_parts import check_part, one_line, refuse_unknown

MODEL_TYPE = "ferret-v2"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # DINOv2's
_PARTS = {"whole_config": "clip_vision_model", "tile_config": "dinov2", "language_config": "llama"}


class FerretConfig(PreTrainedConfig):
    """Sizes and words of a Ferret-v2.

    whole_config, tile_config: the towers, a `CLIPVisionConfig` and a `Dinov2Config`. layers_unused: CLIP's last layers
    that are left out. language_config: any causal language model of transformers.
    side: of a view in pixels. grids: [columns, rows] each; empty for the low-resolution view alone.
    sampler_width: C of the sampler. sampler_points: N. sampler_kept, sampler_neighbours: M and K of each stage.
    system, user, assistant: what stands before the conversation and before a message of each role. ground_request: what
    is added to a question whose answer is to have boxes.
    max_answer_tokens: of an answer. answer_scale: what log-likelihoods of allowed answers are multiplied by before
    they become probabilities; 1: not calibrated.
    name: for people.

    Raises `ConfigError` for an unknown key and for values that contradict each other.
    """

    model_type = MODEL_TYPE
    sub_configs_defaults = {
        "whole_config": SubConfigSpec(config_class=CLIPVisionConfig),
        "tile_config": SubConfigSpec(config_class=Dinov2Config),
        "language_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }

    whole_config: Any = None
    tile_config: Any = None
    language_config: Any = None
    layers_unused: int = 1
    side: int = 336
    grids: Any = None  # None: those of the paper
    sampler_width: int = 1024
    sampler_points: int = 512
    sampler_kept: list[int] | tuple[int, ...] = (128, 32)
    sampler_neighbours: list[int] | tuple[int, ...] = (24, 24)
    system: str = "A conversation between a person and an assistant that sees the image."
    user: str = " USER: "
    assistant: str = " ASSISTANT:"
    ground_request: str = " Give the box of each object."
    max_answer_tokens: int = 512
    answer_scale: float = 1.0
    name: str = "ferret-v2"

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown(kwargs, set(type(self).__dataclass_fields__), "the configuration of the converser")
        for part, kind in _PARTS.items():
            check_part(part, getattr(self, part), kind, only=part != "language_config")
        if self.grids is None:
            self.grids = [[grid.columns, grid.rows] for grid in GRIDS]
        self._check_numbers()
        try:
            super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        except Exception as error:  # each class of transformers raises what it meets
            raise ConfigError(f"the configuration has values that do not fit: {one_line(error)}.") from error
        self._check_sides()

    @property
    def spec(self) -> FerretSpec:
        """How images are prepared for it."""
        return FerretSpec(self.side, self.tile_config.patch_size, tuple(Grid(*each) for each in self.grids))

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("side", 14, 4096),
            ("sampler_width", 1, 65536),
            ("sampler_points", 1, 65536),
            ("max_answer_tokens", 1, 65536),
            ("layers_unused", 0, 64),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"{name} is {value!r:.40}; it must be a whole number from {low} to {high}.")
        if not isinstance(self.answer_scale, int | float) or not self.answer_scale > 0:
            raise ConfigError(f"answer_scale is {self.answer_scale!r:.40}; it must be a number above 0.")
        for name in ("system", "user", "assistant", "ground_request", "name"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is {getattr(self, name)!r:.40}; it must be a text.")
        self._check_sampler()
        if not isinstance(self.grids, list | tuple) or not all(map(_is_grid, self.grids)):
            raise ConfigError("grids must be a list of [columns, rows], whole numbers from 1 to 16.")

    def _check_sampler(self) -> None:
        kept, nearest, left = self.sampler_kept, self.sampler_neighbours, self.sampler_points
        fits = isinstance(kept, list | tuple) and isinstance(nearest, list | tuple) and 0 < len(kept) == len(nearest)
        for centres, neighbours in zip(kept, nearest, strict=True) if fits else ():
            fits &= (
                type(centres) is int and type(neighbours) is int and 1 <= centres <= left and 1 <= neighbours <= left
            )
            left = centres
        if not fits:
            raise ConfigError(
                f"sampler_kept {kept!r:.40} and sampler_neighbours {nearest!r:.40} must have a whole number each per "
                "stage, none above the points of the stage before."
            )

    def _check_sides(self) -> None:
        if self.whole_config.image_size != self.side:
            raise ConfigError(f"whole_config.image_size is {self.whole_config.image_size} but side is {self.side}.")
        for name in ("whole_config", "tile_config"):
            if self.side % getattr(self, name).patch_size:
                raise ConfigError(f"{name}.patch_size must divide side, {self.side}.")
        if self.layers_unused >= self.whole_config.num_hidden_layers:
            raise ConfigError("layers_unused leaves whole_config without a layer.")


def _is_grid(given: object) -> bool:
    return (
        isinstance(given, list | tuple)
        and len(given) == 2
        and all(type(each) is int and 1 <= each <= 16 for each in given)
    )


# A grid of six tiles and the whole view are 4,032 tokens, so Vicuna's 4,096 places would leave 64 for words: positions
# are compressed by two, as the longer Vicunas have it.
_VICUNA_7B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_FERRET_V2_7B: dict[str, Any] = {
    "whole_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
        "hidden_act": "quick_gelu",
    },
    "tile_config": {
        "model_type": "dinov2",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 518,
        "patch_size": 14,
    },
    "language_config": _VICUNA_7B,
    "name": "ferret-v2-7b",
}
_TINY: dict[str, Any] = {
    "whole_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    },
    "tile_config": {
        "model_type": "dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
    },
    "language_config": {
        "model_type": "llama",
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
    "side": 56,
    "sampler_width": 16,
    "max_answer_tokens": 64,
    "name": "ferret-v2-tiny",
}
PRESETS: Mapping[str, Mapping[str, Any]] = {"ferret-v2-7b": _FERRET_V2_7B, "tiny": _TINY}


def preset(name: str, **changes: Any) -> FerretConfig:
    """The named configuration, with top-level keys replaced by `changes`. Raises `ConfigError` for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return FerretConfig(**{**PRESETS[name], **changes})

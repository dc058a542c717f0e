"""The model's configuration: every size, prior and threshold as data, and the named presets.

Scope: a `transformers` configuration, so that `save_pretrained` / `from_pretrained`, `dtype` and `device_map` work as
everywhere else. Sources: the paper (arXiv 2405.16071) and the released configuration files for `flan-t5-xl`.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from transformers import AutoConfig, Blip2QFormerConfig, CLIPTextConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from dynrefer.model.errors import ConfigError
from dynrefer.model.networks.dynrefer.config_parts import check_part, one_line, refuse_unknown
from dynrefer.model.networks.dynrefer.config_values import (
    check_calibration,
    check_dtype,
    check_generation,
    check_own_values,
)
from dynrefer.model.tasks import TASKS
from dynrefer.model.vocabulary import PromptTemplates

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_GENERATION_KEYS = ("num_beams", "max_new_tokens", "min_length", "length_penalty", "repetition_penalty")
_ONE_KIND = ("qformer_config", "text_config")  # parts that are always of the same class
_PART_KEYS = ("vision_config", "qformer_config", "text_config", "language_config")


class DynReferConfig(PreTrainedConfig):
    """Sizes and settings of a DynRefer network.

    vision_config: any vision tower of transformers that returns a feature map, with or without a class token.
    qformer_config, text_config: `Blip2QFormerConfig`, `CLIPTextConfig`. language_config: the language model.
    view_size: side of a view in pixels. num_views: V, t = 0 included. num_queries: Q.
    vision_norm_eps: epsilon of the norm after a `Blip2VisionModel` (released weights: 1e-5, blocks 1e-6).
    roi_size, roi_sampling_ratio: RoIAlign's output side and samples per bin and axis (aligned=False).
    align_groups: groups of the deformable alignment; align_residual adds the unaligned map to its output
    (not in the released model; helps a model that is trained from scratch).
    decoder_*: the recognition decoders (tags; attributes and categories).
    max_control_tokens: control words are cut to so many tokens, the end token counted.
    add_control_memory: whether a learned vector is added to the embeddings of control words; the official code with
    Vicuna has such a vector and never adds it.
    tie_language_head: whether the language model's head shares its embedding (not in Flan-T5).
    noun_placeholder: token that the language model writes where the noun stands; None: it writes nouns itself (official
    weights). evidence: settings of `evidence.Evidence`, whose files lie in the folder "evidence"; None: no evidence of
    photographs (official weights).
    generation: beam search settings. thresholds: task -> the score above which its labels are most useful; that of tags
    applies unless a request sets one, the others are advice.
    task_priors: task -> t of its views, t = 0 first; a missing task has its default. calibration: task -> {"scale",
    "bias"} applied to the logit before `probability`; a missing task uses the trained temperature and bias where its
    head has them, else (1, 0).
    prompts: what the text tower is given for a word, as `vocabulary.PromptTemplates`; if missing, the official.
    name, revision, trained_on, intended_use: for the model card.

    Raises `ConfigError` for an unknown key (naming the nearest valid one) and for values that contradict each other.
    """

    model_type = "dynrefer"
    sub_configs_defaults = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="blip_2_vision_model"),
        "qformer_config": SubConfigSpec(config_class=Blip2QFormerConfig),
        "text_config": SubConfigSpec(config_class=CLIPTextConfig),
        "language_config": SubConfigSpec(config_class=AutoConfig, model_type="t5"),
    }

    vision_config: Any = None  # a mapping is turned into its configuration class
    qformer_config: Any = None
    text_config: Any = None
    language_config: Any = None
    view_size: int = 224
    num_views: int = 3
    num_queries: int = 32
    image_mean: list[float] | tuple[float, ...] = CLIP_MEAN
    image_std: list[float] | tuple[float, ...] = CLIP_STD
    vision_norm_eps: float = 1e-5
    roi_size: int = 16
    roi_sampling_ratio: int = 2
    align_groups: int = 4
    align_residual: bool = False
    decoder_width: int = 256
    decoder_heads: int = 4
    decoder_layers: int = 2
    decoder_intermediate: int = 1024
    decoder_norm_eps: float = 1e-12
    decoder_dropout: float = 0.1
    max_control_tokens: int = 32
    add_control_memory: bool = True
    tie_language_head: bool = False
    noun_placeholder: str | None = None
    evidence: dict[str, Any] | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    task_priors: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, Any] = field(default_factory=dict)
    name: str = "dynrefer"
    revision: str = "untrained"
    trained_on: str = "nothing: random weights"
    intended_use: str = "tests and timing"

    def __post_init__(self, **kwargs: Any) -> None:
        refuse_unknown(kwargs, set(type(self).__dataclass_fields__), "the model configuration")
        check_own_values(vars(self))
        for value in (self.dtype, kwargs.get("torch_dtype")):
            check_dtype(value)
        for part in _PART_KEYS:
            default = type(self).sub_configs_defaults[part].model_type
            check_part(part, getattr(self, part), default, only=part in _ONE_KIND)
        self.generation = _GENERATION | dict(self.generation)
        refuse_unknown(self.generation, set(_GENERATION_KEYS), "generation")
        check_generation(self.generation)
        self.thresholds = _DEFAULT_THRESHOLDS | dict(self.thresholds)
        self.calibration = dict(self.calibration)
        self.task_priors = dict(self.task_priors)
        self.prompts = dict(self.prompts)
        PromptTemplates.from_mapping(self.prompts)
        for task in TASKS:
            self.task_priors.setdefault(task.name, task.default_prior(self.num_views))
        for name in ("thresholds", "calibration", "task_priors"):
            refuse_unknown(getattr(self, name), {task.name for task in TASKS}, name)
        for name, values in self.calibration.items():
            check_calibration(name, values)
        if self.evidence is not None and self.noun_placeholder is None:
            raise ConfigError("evidence needs a noun_placeholder, in whose place its names are put.")
        if self.noun_placeholder == "":
            raise ConfigError("noun_placeholder must be a token or null; it is empty.")
        self._check_priors()
        try:
            super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        except Exception as error:  # as in `check_part`
            raise ConfigError(f"the configuration has values that do not fit: {one_line(error)}.") from error
        self._check_widths()

    def _check_priors(self) -> None:
        for task, ts in self.task_priors.items():
            if len(ts) != self.num_views or ts[0] != 0.0 or not all(0.0 <= t <= 1.0 for t in ts):
                raise ConfigError(
                    f"task_priors.{task} must be {self.num_views} values of t in [0, 1], the first 0.0; got {list(ts)}."
                )

    def _check_widths(self) -> None:
        vision, qformer = vision_width(self), getattr(self.qformer_config, "encoder_hidden_size", None)
        if vision != qformer:
            raise ConfigError(
                f"qformer_config.encoder_hidden_size is {qformer} but the vision tower's width is {vision}; "
                "make them equal."
            )


def vision_width(config: DynReferConfig) -> int:
    """Channels C of the vision tower's feature map. Raises `ConfigError` for a tower that has no such number."""
    sizes = getattr(config.vision_config, "hidden_sizes", None)  # convolutional towers name one per stage
    width = sizes[-1] if sizes else getattr(config.vision_config, "hidden_size", None)
    if not isinstance(width, int):
        raise ConfigError("vision_config gives no width: it needs hidden_size, or hidden_sizes with one per stage.")
    return width


_DEFAULT_THRESHOLDS = {task.name: task.default_threshold for task in TASKS if task.default_threshold is not None}

_GENERATION: dict[str, Any] = {
    "num_beams": 2,
    "max_new_tokens": 20,
    "min_length": 1,
    "length_penalty": 0.0,
    "repetition_penalty": 1.5,
}

_FLAN_T5_XL: dict[str, Any] = {
    "vision_config": {"model_type": "blip_2_vision_model", "initializer_range": 0.02},
    "qformer_config": {"encoder_hidden_size": 1408},
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 1024,
        "hidden_act": "gelu",
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 0,
    },
    "language_config": {
        "model_type": "t5",
        "vocab_size": 32128,
        "d_model": 2048,
        "d_kv": 64,
        "d_ff": 5120,
        "num_layers": 24,
        "num_decoder_layers": 24,
        "num_heads": 32,
        "feed_forward_proj": "gated-gelu",
        "dense_act_fn": "gelu",
        "scale_decoder_outputs": False,
    },
    "name": "dynrefer-flan-t5-xl",
}

# `dynrefer_vicuna.yaml` of the official repository, and lmsys/vicuna-7b-v1.5. The official code adds a token "[PAD]" to
# Vicuna's, with random weights that are never read: here "<unk>" pads. It does not cut control words; the limit here is
# above what a region's tags come to, so that no request can take a device's memory. Its `max_new_tokens` of 20 is lost
# on the way to the search, which then ends with the caption alone; here it applies.
_VICUNA_7B: dict[str, Any] = {
    **_FLAN_T5_XL,
    "language_config": {
        "model_type": "llama",
        "vocab_size": 32_000,
        "hidden_size": 4096,
        "intermediate_size": 11_008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
    "add_control_memory": False,
    "max_control_tokens": 512,
    "name": "dynrefer-vicuna-7b",
}

# Sizes of goldens/medium_config.json: large enough that matrix products dominate, small enough for two cores.
_MEDIUM: dict[str, Any] = {
    "vision_config": {
        "model_type": "blip_2_vision_model",
        "initializer_range": 0.02,
        "hidden_size": 704,
        "intermediate_size": 3072,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
    },
    "qformer_config": {
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "encoder_hidden_size": 704,
    },
    "text_config": {
        **_FLAN_T5_XL["text_config"],
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "language_config": {
        **_FLAN_T5_XL["language_config"],
        "d_model": 512,
        "d_ff": 1024,
        "num_layers": 6,
        "num_decoder_layers": 6,
        "num_heads": 8,
    },
    "name": "dynrefer-medium",
}

# The small default, trained by us on drawn scenes: a convolutional tower, because that learns from little data.
_EMBEDDED: dict[str, Any] = {
    "vision_config": {
        "model_type": "resnet",
        "embedding_size": 64,
        "hidden_sizes": [64, 160],
        "depths": [2, 3],
        "layer_type": "basic",
    },
    "qformer_config": {
        "hidden_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 480,
        "encoder_hidden_size": 160,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "text_config": {
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "projection_dim": 160,
        "bos_token_id": 1022,
        "eos_token_id": 1023,
        "pad_token_id": 0,
    },
    "language_config": {
        "model_type": "t5",
        "vocab_size": 1024,
        "d_model": 160,
        "d_kv": 40,
        "d_ff": 320,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
    },
    "view_size": 64,
    "num_queries": 16,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "roi_size": 8,
    "align_residual": True,
    "decoder_width": 128,
    "decoder_intermediate": 256,
    "decoder_norm_eps": 1e-6,
    "decoder_dropout": 0.0,
    "tie_language_head": True,
    "generation": {"num_beams": 2, "max_new_tokens": 28, "repetition_penalty": 1.0},
    "name": "dynrefer-embedded",
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "flan-t5-xl": _FLAN_T5_XL,
    "vicuna-7b": _VICUNA_7B,
    "medium": _MEDIUM,
    "embedded": _EMBEDDED,
}


def preset(name: str, **changes: Any) -> DynReferConfig:
    """The named configuration, with top-level keys replaced by `changes`. Raises `ConfigError` for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return DynReferConfig(**{**PRESETS[name], **changes})

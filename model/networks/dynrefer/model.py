"""The network, assembled: nested views of a region -> one region representation -> three decoders.

Source: paper (arXiv 2405.16071), figure 2. Inference calls the parts that a batch needs
(`dynrefer.model.batch`); training has its own path over the same parts.

Shapes: N = distinct views, R = regions, V = views of a region, Q = queries, T = texts, C = channels, L = tokens of a
map, P = side of a pooled map, S = side of a view in pixels.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerModel, CLIPTextModelWithProjection, PreTrainedModel
from transformers import initialization as init

from dynrefer.model.errors import ConfigError
from dynrefer.model.network_building import TURNS
from dynrefer.model.networks.dynrefer.causal_language import language_decoder
from dynrefer.model.networks.dynrefer.config import DynReferConfig, vision_width
from dynrefer.model.networks.dynrefer.decoders import RecognitionDecoder
from dynrefer.model.networks.dynrefer.language import LanguageDecoder
from dynrefer.model.networks.dynrefer.region import DeformableAlignment, ViewFusion, roi_align
from dynrefer.model.networks.dynrefer.vision import VisionEncoder, VisionFeatures, normalise
from dynrefer.model.networks.kernels.batch_invariance import is_lone_view
from dynrefer.model.networks.kernels.blocking import regions_per_part, view_parts


@dataclass(frozen=True)
class DynReferOutput:
    """representation: (R, Q, C) float32. tag_logits, region_text_logits: (R, T), or None where no texts were given."""

    representation: Tensor
    tag_logits: Tensor | None
    region_text_logits: Tensor | None


class DynReferModel(PreTrainedModel):
    """DynRefer as a transformers model; `save_pretrained`, `from_pretrained`, `dtype`, `device_map` as usual."""

    config: DynReferConfig
    config_class = DynReferConfig
    base_model_prefix = "dynrefer"
    main_input_name = "images"
    image_mean: Tensor
    image_std: Tensor
    _supports_sdpa = True
    _no_split_modules = [
        "Blip2EncoderLayer",
        "Blip2QFormerLayer",
        "T5Block",
        "LlamaDecoderLayer",
        "CLIPEncoderLayer",
        "TextRegionLayer",
    ]
    # The released model computes the Q-Former in float32 whatever the rest is (section 3.2). Temperature and bias of
    # the region-text head turn cosines into logits; rounded, they would shift every logit.
    _keep_in_fp32_modules_strict = ["qformer", "query_tokens", "region_text_temperature", "region_text_bias"]

    def __init__(self, config: DynReferConfig) -> None:
        super().__init__(config)
        width = vision_width(config)
        self.vision = VisionEncoder(config)
        self.align = DeformableAlignment(width, config.align_groups, config.align_residual)
        self.fusion = ViewFusion(width, config.num_views)
        self.query_tokens = nn.Parameter(torch.zeros(1, config.num_queries, config.qformer_config.hidden_size))
        self.qformer = Blip2QFormerModel(config.qformer_config)
        self.text = CLIPTextModelWithProjection(config.text_config)
        self.tag_decoder = RecognitionDecoder(config, normalised=False)
        self.region_text_decoder = RecognitionDecoder(config, normalised=True)
        self.region_text_temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        self.region_text_bias = nn.Parameter(torch.tensor(-10.0))
        self.language = language_decoder(config)
        # float32 whatever the weights' dtype is: a mean rounded to bfloat16 shifts every pixel.
        self.register_buffer("image_mean", torch.tensor(config.image_mean, dtype=torch.float32), persistent=False)
        self.register_buffer("image_std", torch.tensor(config.image_std, dtype=torch.float32), persistent=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def get_init_context(cls, dtype: torch.dtype, *arguments: Any, **named: Any) -> list[Any]:
        """What `from_pretrained` builds a network in, as transformers has it, but without drawing random weights, and
        while no other network computes.

        On the device where it builds nothing would be filled, but torch's compiler loaded: half a second.
        """
        usual = super().get_init_context(dtype, *arguments, **named)
        return [TURNS.building(dtype), *usual, init.no_init_weights()]

    def forward(
        self,
        images: Tensor,
        boxes: Tensor,
        tag_embeddings: Tensor | None = None,
        region_text_embeddings: Tensor | None = None,
    ) -> DynReferOutput:
        """images: (R, V, 3, S, S) uint8. boxes: (R, V, 4) float32, the region in each view, xyxy, view pixels.

        tag_embeddings, region_text_embeddings: (T, E), from `embed_texts`.
        """
        features = self.encode(images.flatten(0, 1))
        region = self.represent(features, boxes)
        tags = None if tag_embeddings is None else self.tag_decoder(region, tag_embeddings)
        texts = None if region_text_embeddings is None else self.region_text_decoder(region, region_text_embeddings)
        return DynReferOutput(region, tags, texts)

    def encode(self, images: Tensor) -> VisionFeatures:
        """Views (N, 3, S, S) uint8 -> feature maps."""
        dtype = next(self.vision.parameters()).dtype
        features: VisionFeatures = self.vision(normalise(images, self.image_mean, self.image_std, dtype))
        return features

    def encode_in_parts(self, images: Tensor) -> VisionFeatures:
        """`encode` for many views, without gradients, in the parts that suit the device."""
        if not len(images):
            return self.encode(images)
        if is_lone_view(images):
            return self.encode(images.expand(2, -1, -1, -1)).take(torch.tensor([0]))
        return VisionFeatures.join([self.encode(part) for part in view_parts(images)])

    def represent(self, features: VisionFeatures, boxes: Tensor) -> Tensor:
        """Features of R * V views, region-major, and boxes (R, V, 4) -> region representation (R, Q, C) float32."""
        return self.compress(self.fuse(features, boxes))

    def represent_in_parts(self, features: VisionFeatures, boxes: Tensor) -> Tensor:
        """`represent` for many regions, without gradients, fused in the parts that suit the device."""
        together = regions_per_part(boxes.device, len(boxes))
        if len(boxes) <= together:
            return self.represent(features, boxes)
        parts = zip(features.split(together * boxes.shape[1]), boxes.split(together), strict=True)
        return self.compress(torch.cat([self.fuse(views, where) for views, where in parts]))

    def fuse(self, features: VisionFeatures, boxes: Tensor) -> Tensor:
        """RoIAlign, alignment of the views t > 0 with t = 0, fusion: (R, L, C) of features and boxes as above."""
        regions, views = boxes.shape[:2]
        pooled = self.pool(features, boxes.flatten(0, 1)).unflatten(0, (regions, views))  # (R, V, C, P, P)
        reference = pooled[:, :1]
        if views > 1:
            others = pooled[:, 1:]
            aligned = self.align(others.flatten(0, 1), reference.expand_as(others).flatten(0, 1))
            pooled = torch.cat((reference, aligned.unflatten(0, (regions, views - 1))), dim=1)
        tokens = pooled.flatten(3).transpose(2, 3)  # (R, V, P*P, C)
        if features.cls is not None:
            tokens = torch.cat((features.cls.view(regions, views, 1, -1), tokens), dim=2)
        fused: Tensor = self.fusion(tokens)
        return fused

    def pool(self, features: VisionFeatures, boxes: Tensor) -> Tensor:
        """RoIAlign of one box (N, 4) per view -> (N, C, P, P)."""
        scale = features.map.shape[-1] / self.config.view_size
        return roi_align(features.map, boxes, scale, self.config.roi_size, self.config.roi_sampling_ratio)

    def compress(self, fused: Tensor) -> Tensor:
        """The Q-Former: fused tokens (R, L, C) -> (R, Q, C) float32."""
        queries = self.query_tokens.expand(fused.shape[0], -1, -1)
        kind = fused.device.type
        # Outside autocast: the released model computes this part in float32 on every device.
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            output = self.qformer(query_embeds=queries, encoder_hidden_states=fused.to(queries.dtype))
        representation: Tensor = output.last_hidden_state
        return representation

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Text embeddings (T, E), pooled at the end-of-text token, not normalised; input_ids: (T, L) int64."""
        embeddings: Tensor = self.text(input_ids=input_ids, attention_mask=attention_mask).text_embeds
        return embeddings

    def calibrate_region_text(self, logits: Tensor) -> Tensor:
        """Logits with the temperature and bias of the contrastive loss: exp(t) * logit + b."""
        return logits * self.region_text_temperature.exp() + self.region_text_bias

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """The language model's tied matrices; transformers looks for them among direct children only."""
        tied = self.language.model.get_expanded_tied_weights_keys(all_submodels=False)
        return {f"language.model.{target}": f"language.model.{source}" for target, source in tied.items()}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Random weights for our own parts (those of transformers initialise themselves): Xavier, zero bias; the
        deformable alignment starts with zero offsets and zero modulation (section 3.5)."""
        if isinstance(module, nn.Linear | nn.Conv2d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, LanguageDecoder):
            init.zeros_(module.control_memory)
        elif isinstance(module, DynReferModel):
            _init_own_parameters(module)


def _init_own_parameters(model: DynReferModel) -> None:
    # Here, not where the alignment is visited: transformers passes over modules without parameters of their own.
    init.zeros_(model.align.offset_mask.weight)
    init.zeros_(model.align.offset_mask.bias)
    init.normal_(model.query_tokens, std=0.02)
    init.constant_(model.region_text_temperature, math.log(10.0))
    init.constant_(model.region_text_bias, -10.0)
    init.copy_(model.image_mean, torch.tensor(model.config.image_mean))
    init.copy_(model.image_std, torch.tensor(model.config.image_std))


@dataclass(frozen=True)
class StoredLayout:
    """What the weights of a model directory hold. shapes: name -> shape of every tensor that must be stored.

    tied: tensors that are another one's alias, and need not be. integers: those that count, and are no floating point.
    """

    shapes: dict[str, tuple[int, ...]]
    tied: frozenset[str]
    integers: frozenset[str]


def stored_layout(config: DynReferConfig) -> StoredLayout:
    """The layout of a network of these sizes; takes no memory for weights. Raises `ConfigError` if there is none."""
    try:
        with torch.device("meta"), init.no_init_weights():
            network = DynReferModel(config)
    except ConfigError:
        raise
    except Exception as error:  # each class of transformers raises what it meets: KeyError, ZeroDivisionError, ...
        raise ConfigError(f"its sizes and settings give no network: {type(error).__name__}.") from error
    tied, state = frozenset(network.all_tied_weights_keys), network.state_dict()
    return StoredLayout(
        {name: tuple(value.shape) for name, value in state.items() if name not in tied},
        tied,
        frozenset(name for name, value in state.items() if not value.is_floating_point()),
    )

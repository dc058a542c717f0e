"""The names that official weights carry, and ours: one table for every file that a released model is put together from.

Known are the files of DynRefer and LAVIS (`visual_encoder.`, `Qformer.`, `t5_model.`, `llm_proj.`, ...), bare EVA
(`blocks.`), BLIP-2 of transformers (`vision_model.`, ...), EVA-CLIP (`text.`), Flan-T5 (`shared`, `encoder.`, ...) and
Vicuna (`model.layers.`, ...); their names do not overlap. Nothing here reads a file or knows a tensor.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_END = r"(weight|bias)"
_EVA = r"(?:visual_encoder\.)?"
_EVA_BLOCK = _EVA + r"blocks\.(\d+)\."
_TEXT = r"(?:text_encoder|text)\."
_TEXT_BLOCK = _TEXT + r"transformer\.resblocks\.(\d+)\."
_QFORMER_LAYER = r"Qformer\.bert\.encoder\.layer\.(\d+)\."
_OUR_BLOCK = r"vision.tower.encoder.layers.\1."
_OUR_TEXT_BLOCK = r"text.text_model.encoder.layers.\1."


@dataclass(frozen=True)
class Piece:
    """Where a tensor, or a third of it, goes.

    target: our name. source_third: only this third of the source's first axis; target_third: it fills only this third
    of ours (a third that nothing fills is zero). transposed: axes swapped. alias: another name of a tensor that
    files usually hold under its own, used only where that is absent.
    """

    target: str
    source_third: int | None = None
    target_third: int | None = None
    transposed: bool = False
    alias: bool = False


@dataclass(frozen=True)
class Dropped:
    """A tensor that is knowingly left out, and why."""

    reason: str


_RENAMED: tuple[tuple[str, str], ...] = (
    # vision tower
    (_EVA + r"cls_token", r"vision.tower.embeddings.class_embedding"),
    (_EVA + r"pos_embed", r"vision.tower.embeddings.position_embedding"),
    (_EVA + r"patch_embed\.proj\." + _END, r"vision.tower.embeddings.patch_embedding.\1"),
    (_EVA_BLOCK + r"norm([12])\." + _END, _OUR_BLOCK + r"layer_norm\2.\3"),
    (_EVA_BLOCK + r"attn\.qkv\.weight", _OUR_BLOCK + r"self_attn.qkv.weight"),
    (_EVA_BLOCK + r"attn\.proj\." + _END, _OUR_BLOCK + r"self_attn.projection.\2"),
    (_EVA_BLOCK + r"mlp\.(fc[12])\." + _END, _OUR_BLOCK + r"mlp.\2.\3"),
    (r"ln_vision\." + _END, r"vision.tower.post_layernorm.\1"),
    # region: alignment, fusion, Q-Former
    (r"cvem_align\.offset_mask_dw\." + _END, r"align.pair.\1"),
    (r"cvem_align\.offset_mask\." + _END, r"align.offset_mask.\1"),
    (r"cvem_align\.(value|output)_proj\." + _END, r"align.\1.\2"),
    (r"cvem_mlp\.0\." + _END, r"fusion.reduce.\1"),
    (r"cvem_mlp\.2\." + _END, r"fusion.project.\1"),
    (r"query_tokens", r"query_tokens"),
    (r"Qformer\.bert\.embeddings\.LayerNorm\." + _END, r"qformer.layernorm.\1"),
    (
        _QFORMER_LAYER + r"((?:cross)?attention)\.self\.(query|key|value)\." + _END,
        r"qformer.encoder.layer.\1.\2.attention.\3.\4",
    ),
    (
        _QFORMER_LAYER + r"((?:cross)?attention\.output|intermediate_query|output_query)\.(dense|LayerNorm)\." + _END,
        r"qformer.encoder.layer.\1.\2.\3.\4",
    ),
    # language
    (r"(?:t5|llm)_proj\." + _END, r"language.projection.\1"),
    (r"cem_memory", r"language.control_memory"),
    (r"(?:t5|llm)_model\.(.+)", r"language.model.\1"),
    # text tower
    (_TEXT + r"token_embedding\.weight", r"text.text_model.embeddings.token_embedding.weight"),
    (_TEXT + r"positional_embedding", r"text.text_model.embeddings.position_embedding.weight"),
    (_TEXT + r"ln_final\." + _END, r"text.text_model.final_layer_norm.\1"),
    (_TEXT_BLOCK + r"ln_([12])\." + _END, _OUR_TEXT_BLOCK + r"layer_norm\2.\3"),
    (_TEXT_BLOCK + r"mlp\.c_fc\." + _END, _OUR_TEXT_BLOCK + r"mlp.fc1.\2"),
    (_TEXT_BLOCK + r"mlp\.c_proj\." + _END, _OUR_TEXT_BLOCK + r"mlp.fc2.\2"),
    (_TEXT_BLOCK + r"attn\.out_proj\." + _END, _OUR_TEXT_BLOCK + r"self_attn.out_proj.\2"),
    # BLIP-2 of transformers
    (r"vision_model\.(.+)", r"vision.tower.\1"),
    (r"qformer\.layernorm\." + _END, r"qformer.layernorm.\1"),
    (
        r"qformer\.(encoder\.layer\.\d+\.(?:(?:cross)?attention|intermediate_query|output_query)\..+)",
        r"qformer.\1",
    ),
    (r"language_projection\." + _END, r"language.projection.\1"),
    (r"language_model\.(.+)", r"language.model.\1"),
    # Flan-T5
    (r"((?:encoder|decoder)\..+|(?:shared|lm_head)\.weight)", r"language.model.\1"),
    # Vicuna, whose head is named as Flan-T5's
    (r"(model\.(?:embed_tokens|layers|norm)\..+)", r"language.model.\1"),
    # region-text calibration
    (r"attr_t", r"region_text_temperature"),
    (r"attr_b", r"region_text_bias"),
)

# Both recognition decoders have the same names behind "tag" and "attr".
_DECODERS = {"tag": "tag_decoder", "attr": "region_text_decoder"}
_DECODER_RENAMED: tuple[tuple[str, str], ...] = (
    (r"vision_proj\." + _END, r"region_projection.\1"),
    (r"text_proj\." + _END, r"text_projection.\1"),
    (r"fc\." + _END, r"logit.\1"),
    (r"head\.encoder\.layer\.(\d+)\.crossattention\.self\.(query|key|value)\." + _END, r"layers.\1.\2.\3"),
    (
        r"head\.encoder\.layer\.(\d+)\.crossattention\.output\.dense\." + _END,
        r"layers.\1.attention_output.\2",
    ),
    (
        r"head\.encoder\.layer\.(\d+)\.crossattention\.output\.LayerNorm\." + _END,
        r"layers.\1.attention_norm.\2",
    ),
    (r"head\.encoder\.layer\.(\d+)\.intermediate\.dense\." + _END, r"layers.\1.expand.\2"),
    (r"head\.encoder\.layer\.(\d+)\.output\.dense\." + _END, r"layers.\1.contract.\2"),
    (r"head\.encoder\.layer\.(\d+)\.output\.LayerNorm\." + _END, r"layers.\1.output_norm.\2"),
)

_TEXT_BRANCH = "text branch of the Q-Former, which DynRefer does not use"
_DROPPED: tuple[tuple[str, str], ...] = (
    (r"Qformer\.bert\.embeddings\.(position_ids|(word|position)_embeddings\.weight)", _TEXT_BRANCH),
    (r"Qformer\.cls\..+", _TEXT_BRANCH),
    (_QFORMER_LAYER + r"(intermediate|output)\..+", _TEXT_BRANCH),
    (r"qformer\.encoder\.layer\.\d+\.(intermediate|output)\..+", _TEXT_BRANCH),
    (r"(clip|att|ov)_embeds", "text embeddings, recomputed from the vocabulary files and the text tower"),
    (r"(text_encoder\.|text\.)?logit_scale", "scale of the text tower's own contrastive loss"),
    (_TEXT + r"attn_mask", "causal mask, which is built when it is needed"),
    (r"visual\..+", "image tower of EVA-CLIP; DynRefer's vision tower is EVA's"),
    (_EVA + r"(norm|fc_norm|head)\..+", "classification head of EVA"),
    (
        r"(?:t5_model\.|language_model\.)?decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",
        "left over in old T5 files; no code reads it",
    ),
    (
        r"(?:llm_model\.|language_model\.)?model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",
        "frequencies of the positions in old LLaMA files, which are computed",
    ),
)
_ALIAS = re.compile(r"(?:t5_model\.|language_model\.)?(?:encoder|decoder)\.embed_tokens\.weight")
ALIAS_REASON = "another name of the language model's shared embedding"


def translate(key: str) -> tuple[Piece, ...] | Dropped | None:
    """Where the tensor of this name goes, why it is dropped, or None for a name that is not known."""
    for pattern, reason in _DROPPED:
        if re.fullmatch(pattern, key):
            return Dropped(reason)
    if _ALIAS.fullmatch(key):
        return (Piece("language.model.shared.weight", alias=True),)
    if whole := _renamed(key, _RENAMED):
        return (Piece(whole),)
    head, _, rest = key.partition("_")
    if head in _DECODERS and (inner := _renamed(rest, _DECODER_RENAMED)):
        return (Piece(f"{_DECODERS[head]}.{inner}"),)
    return _split_or_joined(key)


def _renamed(key: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, ours in table:
        if found := re.fullmatch(pattern, key):
            return found.expand(ours)
    return None


def _split_or_joined(key: str) -> tuple[Piece, ...] | None:
    """The names that are not one tensor here and there: biases of the vision blocks, projections of the text blocks."""
    if found := re.fullmatch(_EVA_BLOCK + r"attn\.([qv])_bias", key):  # keys have no bias in EVA
        bias = found.expand(_OUR_BLOCK + "self_attn.qkv.bias")
        return (Piece(bias, target_third=0 if found[2] == "q" else 2),)
    if found := re.fullmatch(_TEXT_BLOCK + r"attn\.in_proj_" + _END, key):
        names = [found.expand(_OUR_TEXT_BLOCK + rf"self_attn.{part}_proj.\2") for part in "qkv"]
        return tuple(Piece(name, source_third=third) for third, name in enumerate(names))
    if re.fullmatch(_TEXT + r"text_projection", key):
        return (Piece("text.text_projection.weight", transposed=True),)
    return None


def bare_vision_block(key: str) -> int | None:
    """The number of the block in a name of `eva_vit_g.pth`, which holds more of them than DynRefer uses."""
    found = re.match(r"blocks\.(\d+)\.", key)
    return int(found[1]) if found else None


# Where each part of a whole model comes from: prefix of our names -> (part, file and option). Of the first BLIP-2
# files Vicuna's is named blip2_pretrained_vicuna7b.pth.
_BASE = "Salesforce/blip2-flan-t5-xl (--base)"
_RELEASED = "a released checkpoint such as vg1.2_5e.pth (--weights)"
_ORIGINS: Mapping[str, tuple[str, str]] = {
    "vision.tower.post_layernorm.": (
        "norm of the vision tower",
        f"{_BASE} or blip2_pretrained_flant5xl.pth (--weights)",
    ),
    "vision.": ("vision tower", f"{_BASE} or eva_vit_g.pth (--weights)"),
    "query_tokens": ("learned queries", f"{_BASE} or blip2_pretrained_flant5xl.pth (--weights)"),
    "qformer.": ("Q-Former", _RELEASED),
    "align.": ("deformable alignment", _RELEASED),
    "fusion.": ("fusion of the views", _RELEASED),
    "tag_decoder.": ("tag decoder", _RELEASED),
    "region_text_": ("region-text decoder", _RELEASED),
    "language.model.model.": ("language model", "lmsys/vicuna-7b-v1.5 as a directory (--language)"),
    "language.model.": ("language model", f"{_BASE} or google/flan-t5-xl (--language)"),
    "language.": ("language projection and control vector", _RELEASED),
    "text.": ("text tower", "eva_clip_psz14.pt (--text-tower)"),
}


def origin(name: str) -> tuple[str, str]:
    """The part that one of our tensors belongs to, and the file that it should come from."""
    return next(where for prefix, where in _ORIGINS.items() if name.startswith(prefix))

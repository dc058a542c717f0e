"""The sizes that official code is built with, as settings of ours."""

from collections.abc import Mapping
from typing import Any


def settings_of_sizes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `DynReferConfig` from the sizes that the official code is built with.

    document: `cfg` with `vit` (img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio), `qformer` (BERT's names
    and num_query_token), `t5` (T5's names), `text` (vocab_size, width, layers, heads, context_length, embed_dim) and
    `num_views`; optionally `kwargs` (max_txt_len, tag_thr), `embed_dim_heads`, `tag_bert_config`, `roi_align` and
    `dcnv4`. What it leaves open is as in the `flan-t5-xl` preset.
    """
    sizes = document["cfg"]
    vit, qformer, t5, text = (dict(sizes[part]) for part in ("vit", "qformer", "t5", "text"))
    t5.pop("spm_vocab", None)  # of the tokenizer; the embedding may have more rows
    return {
        "vision_config": {
            "image_size": vit["img_size"],
            "patch_size": vit["patch_size"],
            "hidden_size": vit["embed_dim"],
            "intermediate_size": int(vit["embed_dim"] * vit["mlp_ratio"]),
            "num_hidden_layers": vit["depth"],
            "num_attention_heads": vit["num_heads"],
        },
        "num_queries": qformer.pop("num_query_token"),
        "qformer_config": {**qformer, "encoder_hidden_size": vit["embed_dim"]},
        "text_config": {
            "vocab_size": text["vocab_size"],
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "projection_dim": text["embed_dim"],
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
        },
        "language_config": t5,
        "num_views": sizes["num_views"],
        "view_size": vit["img_size"],
        "roi_size": vit["img_size"] // vit["patch_size"],
        **_optional_settings(document),
    }


def _optional_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    arguments = document.get("kwargs", {})
    if "max_txt_len" in arguments:
        found["max_control_tokens"] = arguments["max_txt_len"]
    if "tag_thr" in arguments:
        found["thresholds"] = {"tags": arguments["tag_thr"]}
    if "embed_dim_heads" in document:
        found |= {
            "decoder_width": document["embed_dim_heads"],
            "decoder_intermediate": 4 * document["embed_dim_heads"],
        }
    if bert := document.get("tag_bert_config"):
        found |= {
            "decoder_heads": bert["num_attention_heads"],
            "decoder_layers": bert["num_hidden_layers"],
            "decoder_norm_eps": bert["layer_norm_eps"],
            "decoder_dropout": bert["hidden_dropout_prob"],
        }
    if pooling := document.get("roi_align"):
        found |= {"roi_size": pooling["output_size"], "roi_sampling_ratio": pooling["sampling_ratio"]}
    if alignment := document.get("dcnv4"):
        found["align_groups"] = alignment["group"]
    return found

"""Tiny released finders with random weights, made from configurations, as directories that `save_pretrained` wrote."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PreTrainedTokenizerFast,
)

WORDS = ("dog", "puppy", "cat", "red", "cup", "left", "of", "the", "a", "object", "glass", "and", "on")
# What the model's code takes for the ids of [CLS], [SEP], "." and "?".
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
_SIZES = 1030


def save_grounding_dino(folder: Path, *, mm: bool = False) -> None:
    """MM-Grounding-DINO with `mm`. Images are scaled to a shorter side of 64."""
    torch.manual_seed(0)
    text = {
        "model_type": "bert",
        "vocab_size": _SIZES,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    backbone = {
        "model_type": "swin",
        "image_size": 64,
        "embed_dim": 12,
        "depths": [1, 1, 1],
        "num_heads": [2, 2, 2],
        "window_size": 4,
        "out_features": ["stage2", "stage3"],
    }
    sizes: dict[str, Any] = {
        "backbone_config": backbone,
        "text_config": text,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "num_queries": 20,
        "num_feature_levels": 3,
        "max_text_len": 32,
    }
    model: Any = (
        MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**sizes))
        if mm
        else GroundingDinoForObjectDetection(GroundingDinoConfig(**sizes))
    )
    # Random weights say much the same of every token: let them differ.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.6)
            elif "class_embed" in name and name.endswith("bias"):
                parameter.zero_()  # it begins where hardly any token is likely
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    _preprocessor(folder, {"shortest_edge": 64, "longest_edge": 96})


def save_owlv2(folder: Path) -> None:
    """On squares of 64."""
    torch.manual_seed(0)
    text = {
        "vocab_size": _SIZES,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 8,
        "bos_token_id": SPECIAL["[CLS]"],
        "eos_token_id": SPECIAL["[SEP]"],
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
    }
    Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(
        folder
    )
    _tokenizer().save_pretrained(folder)
    _preprocessor(folder, {"height": 64, "width": 64})


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {**SPECIAL, **{word: 200 + place for place, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", SPECIAL["[CLS]"]), ("[SEP]", SPECIAL["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )


def _preprocessor(folder: Path, size: dict[str, int]) -> None:
    settings = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))

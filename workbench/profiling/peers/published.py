"""The models that are compared, as their authors publish them: sizes, generation settings, prompts, answers.

Sizes are those of the `config.json` of the named repository on the Hugging Face hub, written out where they differ from
the defaults of transformers' configuration classes; the tests compare the number of parameters with the published one.
Nothing is fetched: the weights are random, and prompts are token ids of the length that the model's tokenizer gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["florence2", "blip2", "qwen3_vl", "dynrefer"]
EVERYTHING = "tags, attributes, a category, each with calibrated scores"


@dataclass(frozen=True)
class PublishedModel:
    """One model of the comparison.

    billions: its parameters, 1e9. source: where its numbers are published. answers: what one pass gives beside a
    caption. config: arguments of the family's configuration class; of DynRefer: {"preset": name}. generation: its own
    settings, as of its `generation_config.json`; the number of new tokens is the workload's. prompt: the words, and why
    it has `prompt_tokens` tokens beside those of the image. tiny: arguments that replace those of `config`, for tests.
    """

    title: str
    family: Family
    billions: float
    source: str
    answers: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    prompt_tokens: int = 0
    tiny: Mapping[str, Any] = field(default_factory=dict)


_FLORENCE_PROMPT = (
    "What does the region <loc><loc><loc><loc> describe? "
    "(of <REGION_TO_DESCRIPTION>: 4 location tokens, 7 of words, start and end)"
)
# Of microsoft/Florence-2-*: generation_config.json.
_FLORENCE_GENERATION = {
    "num_beams": 3,
    "no_repeat_ngram_size": 3,
    "early_stopping": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
_BART = {
    "model_type": "bart",
    # 51,289 entries and <image>, padded to a multiple of 64, as transformers' conversion resizes it.
    "vocab_size": 51328,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "is_encoder_decoder": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
_TINY_FLORENCE = {
    "text_config": {
        **_BART,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    },
    "vision_config": {
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 8, 16],
        "num_heads": [1, 1, 1, 1],
        "num_groups": [1, 1, 1, 1],
        "projection_dim": 32,
    },
}


def _florence(
    title: str, billions: float, repository: str, text: dict[str, int], vision: dict[str, Any]
) -> PublishedModel:
    width, layers, heads = text["width"], text["layers"], text["heads"]
    language = {
        **_BART,
        "d_model": width,
        **{f"{part}_layers": layers for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": heads for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 4 * width for part in ("encoder", "decoder")},
    }
    return PublishedModel(
        title,
        "florence2",
        billions,
        f"{repository}: config.json, generation_config.json; "
        "transformers' convert_florence2_original_pytorch_to_hf.py (vocabulary)",
        "nothing (boxes and polygons are other tasks, a pass each)",
        {"text_config": language, "vision_config": {"projection_dim": width, **vision}, "image_token_id": 51289},
        _FLORENCE_GENERATION,
        _FLORENCE_PROMPT,
        13,
        _TINY_FLORENCE,
    )


_T5_XL = {
    "model_type": "t5",
    "vocab_size": 32128,
    "d_model": 2048,
    "d_kv": 64,
    "d_ff": 5120,
    "num_layers": 24,
    "num_decoder_layers": 24,
    "num_heads": 32,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_QWEN_TEXT = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5_000_000,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
    "tie_word_embeddings": True,
}
_QWEN_VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "deepstack_visual_indexes": [5, 11, 17],
}

MODELS: Mapping[str, PublishedModel] = {
    "florence-2-base": _florence(
        "Florence-2 base", 0.23, "microsoft/Florence-2-base", {"width": 768, "layers": 6, "heads": 12}, {}
    ),
    "florence-2-large": _florence(
        "Florence-2 large",
        0.77,
        "microsoft/Florence-2-large",
        {"width": 1024, "layers": 12, "heads": 16},
        {"embed_dim": [256, 512, 1024, 2048], "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64]},
    ),
    "blip-2": PublishedModel(
        "BLIP-2 Flan-T5 XL",
        "blip2",
        3.94,
        "Salesforce/blip2-flan-t5-xl: config.json (vision tower and Q-Former are transformers' defaults)",
        "nothing",
        {
            "text_config": _T5_XL,
            "vision_config": {"initializer_range": 0.02},  # 1e-10, the published one, would make the features zero
            "qformer_config": {},
            "image_token_index": 32100,
            "tie_word_embeddings": False,  # as the text model's; the default would share T5's two tables
        },
        {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
        "a photo of (of LAVIS: 4 tokens and the end) on the crop of the region",
        5,
        {
            "text_config": {
                **_T5_XL,
                "d_model": 32,
                "d_kv": 8,
                "d_ff": 32,
                "num_layers": 1,
                "num_decoder_layers": 1,
                "num_heads": 2,
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "initializer_range": 0.02,
            },
            "qformer_config": {
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
            },
        },
    ),
    "qwen3-vl-2b": PublishedModel(
        "Qwen3-VL 2B",
        "qwen3_vl",
        2.13,
        "Qwen/Qwen3-VL-2B-Instruct: config.json, generation_config.json, preprocessor_config.json",
        "nothing in this prompt (another prompt: text of any form, no scores)",
        {"text_config": _QWEN_TEXT, "vision_config": _QWEN_VISION, "tie_word_embeddings": True},
        {
            "do_sample": True,
            "temperature": 0.7,
            "top_k": 20,
            "top_p": 0.8,
            "bos_token_id": 151643,
            "pad_token_id": 151643,
            "eos_token_id": [151645, 151643],
        },
        "Describe the object in the box [123, 234, 345, 456] in one sentence. "
        "(30 tokens, one per digit, and 10 of the chat template)",
        40,
        {
            "text_config": {
                **_QWEN_TEXT,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 16,
                "rope_parameters": {**_QWEN_TEXT["rope_parameters"], "mrope_section": [4, 2, 2]},  # type: ignore[dict-item]
            },
            "vision_config": {
                **_QWEN_VISION,
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
                "deepstack_visual_indexes": [0],
            },
        },
    ),
    **{
        name: PublishedModel(
            title,
            "dynrefer",
            billions,
            "this project's preset",
            EVERYTHING,
            {"preset": preset},
            {"num_beams": 2},
            "three views of the region; control words of the greatest length",
            tiny={"preset": "embedded"},
        )
        for name, title, billions, preset in (
            ("dynrefer-full", "DynRefer, official sizes", 4.08, "flan-t5-xl"),
            ("dynrefer-medium", "DynRefer medium", 0.158, "medium"),
            ("dynrefer-embedded", "DynRefer embedded", 0.005, "embedded"),
        )
    },
}

"""What a user has of the official Vicuna variant, made of the goldens and of random weights."""

import io
import json
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from dynrefer.model.convert.sizes import settings_of_sizes

WORDS = ("a brown dog lying on the street", "two people and a red car", "a man with a white umbrella", "street,dog|")


def write_vicuna(folder: Path) -> Path:
    """Weights and tokenizer under the names of lmsys/vicuna-7b-v1.5."""
    folder.mkdir()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20),
        model_writer=written,
        model_type="bpe",
        vocab_size=320,
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **{"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1},
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "model_max_length": 4096}
    document = {**tokens, **settings, "pad_token": None, "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    state = LlamaForCausalLM(llama_config()).state_dict()
    frequencies = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    torch.save({**state, **frequencies}, folder / "pytorch_model.bin")
    return folder


def llama_config() -> LlamaConfig:
    """Of the sizes in `write_config`."""
    return LlamaConfig(**LANGUAGE)


LANGUAGE = {
    **{"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": 256, "pad_token_id": 0},
}


def write_config(goldens: Path, path: Path) -> Path:
    """The sizes of the goldens, with a small language model of LLaMA's kind."""
    document = json.loads((goldens / "tiny_config.json").read_text())
    settings = {**settings_of_sizes(document), "language_config": LANGUAGE}
    del settings["max_control_tokens"]  # with this variant the official code does not cut
    path.write_text(json.dumps(settings))
    return path


def vicuna_checkpoint(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """A released checkpoint of the variant: the other's, with a projection and a control vector of Vicuna's width."""
    generator = torch.Generator().manual_seed(1)
    width = released["t5_proj.weight"].shape[1]
    state = {key: value for key, value in released.items() if not key.startswith("t5_")}
    state["llm_proj.weight"] = torch.randn(LANGUAGE["hidden_size"], width, generator=generator)
    state["llm_proj.bias"] = torch.randn(LANGUAGE["hidden_size"], generator=generator)
    return {**state, "cem_memory": torch.randn(LANGUAGE["hidden_size"], generator=generator)}

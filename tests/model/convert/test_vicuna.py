"""The official Vicuna variant, converted: weights, tokenizer, settings, and a caption from HTTP's side of the model."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from dynrefer.model import DynRefer
from dynrefer.model.convert import Conversion, convert
from dynrefer.model.errors import ConfigError, ConversionError
from dynrefer.model.networks.dynrefer.config import PRESETS, preset
from dynrefer.model.networks.dynrefer.model import DynReferModel, stored_layout
from dynrefer.model.types import CaptionWriting
from tests.model.convert.test_convert import official_state, write_official
from tests.model.convert.vicuna_sources import vicuna_checkpoint, write_config, write_vicuna

torch.set_num_threads(1)


@dataclass(frozen=True)
class Sources:
    """Paths of what a user has."""

    weights: list[Path]
    text_tower: Path
    language: Path
    official: Path
    config: Path

    def convert(self, out: Path, language: Path | None = None, preset: str = "vicuna-7b") -> Conversion:
        return convert(
            out,
            self.weights,
            text_tower=self.text_tower,
            language=str(language or self.language),
            official=self.official,
            config=self.config,
            preset=preset,
        )


@pytest.fixture(scope="module")
def sources(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("vicuna")
    state = official_state(goldens)
    eva = {key.removeprefix("visual_encoder."): value for key, value in state.items() if "visual_encoder" in key}
    torch.save(eva, folder / "eva_vit_g.pth")
    first = {key: state[key] for key in ("ln_vision.weight", "ln_vision.bias", "query_tokens")}
    torch.save({"model": first}, folder / "blip2_pretrained_vicuna7b.pth")
    keys = json.loads((goldens / "checkpoint_keys.json").read_text())["saved_by_runner"]
    released = {key: state[key].clone() for key in keys if key in state and not key.startswith("t5_model")}
    torch.save({"model": vicuna_checkpoint(released)}, folder / "vicuna_vg1.2_5e.pth")
    tower = {key.replace("text_encoder.", "text."): value for key, value in state.items() if "text_encoder" in key}
    torch.save(tower, folder / "eva_clip_psz14.pt")
    names = ("eva_vit_g.pth", "blip2_pretrained_vicuna7b.pth", "vicuna_vg1.2_5e.pth")
    return Sources(
        weights=[folder / name for name in names],
        text_tower=folder / "eva_clip_psz14.pt",
        language=write_vicuna(folder / "vicuna-7b-v1.5"),
        official=write_official(goldens, folder / "DynRefer"),
        config=write_config(goldens, folder / "sizes.json"),
    )


@pytest.fixture(scope="module")
def conversion(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return sources.convert(tmp_path_factory.mktemp("out") / "model")


def test_weights_are_the_sources(conversion: Conversion, sources: Sources) -> None:
    state = DynReferModel.from_pretrained(conversion.out).state_dict()
    released = torch.load(sources.weights[-1], weights_only=True)["model"]
    vicuna = torch.load(sources.language / "pytorch_model.bin", weights_only=True)
    assert torch.equal(state["language.projection.weight"], released["llm_proj.weight"])
    assert torch.equal(state["language.control_memory"], released["cem_memory"])
    assert torch.equal(state["language.model.lm_head.weight"], vicuna["lm_head.weight"])
    name = "model.layers.1.self_attn.k_proj.weight"
    assert torch.equal(state[f"language.model.{name}"], vicuna[name])
    reasons = {reason for (_, key), reason in conversion.plan.dropped.items() if key.endswith("inv_freq")}
    assert len(reasons) == 1 and "computed" in reasons.pop()


def test_settings_say_what_the_variant_does(conversion: Conversion) -> None:
    config = json.loads((conversion.out / "config.json").read_text())
    assert config["add_control_memory"] is False
    assert config["language_config"]["model_type"] == "llama"
    assert config["max_control_tokens"] == 512


def test_tokenizer_begins_with_the_end_token(conversion: Conversion, sources: Sources) -> None:
    """As the official code's: "</s>" begins a text and nothing ends it; the pieces are SentencePiece's."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(sources.language / "tokenizer.model"))
    ours = AutoTokenizer.from_pretrained(conversion.out / "language_tokenizer")
    found = ours(["street,dog|", "|", "a brown dog é|"], padding=True, pad_to_multiple_of=16)
    for text, ids, mask in zip(
        ("street,dog|", "|", "a brown dog é|"), found.input_ids, found.attention_mask, strict=True
    ):
        words = [each for each, seen in zip(ids, mask, strict=True) if seen]
        assert words == [2, *pieces.encode(text)]
        assert set(ids[len(words) :]) <= {0}
    assert ours.decode([1, *pieces.encode("a dog"), 2, 2], skip_special_tokens=True) == "a dog"


def test_regions_are_described_alike_alone_and_together(conversion: Conversion) -> None:
    model = DynRefer.load(str(conversion.out), device="cpu", dtype="float32")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    boxes = [(0.0, 0.0, 40.0, 30.0), (10.0, 20.0, 70.0, 55.0), (5.0, 5.0, 20.0, 50.0)]
    together = model.describe(image, boxes, "caption", controls=["street", "dog"])
    for box, region in zip(boxes, together, strict=True):
        alone = model.describe(image, [box], "caption", controls=["street", "dog"])[0]
        assert alone.results["caption"].text == region.results["caption"].text
        assert alone.results["caption"].logprob_sum == pytest.approx(region.results["caption"].logprob_sum, abs=1e-5)
    several = model.describe(image, boxes[:1], "caption", writing=CaptionWriting(num_captions=3, max_words=2))
    assert 1 <= len(several[0].results["caption"].candidates or ()) <= 3
    assert model.continuous() is None


def test_full_size_preset() -> None:
    """Vicuna-7B v1.5 has 6,738,415,616 parameters (its model card: 7B; 32,000 words)."""
    shapes = stored_layout(preset("vicuna-7b")).shapes
    language = [shape for name, shape in shapes.items() if name.startswith("language.model.")]
    assert sum(int(np.prod(shape)) for shape in language) == 6_738_415_616
    assert "vicuna-7b" in PRESETS


def test_refused_by_name(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="tokenizer is missing: give the directory of lmsys/vicuna"):
        (tmp_path / "bare").mkdir()
        sources.convert(tmp_path / "model", tmp_path / "bare")
    with pytest.raises(ConfigError, match="unknown preset 'vicuna'"):
        sources.convert(tmp_path / "model", preset="vicuna")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "tokenizer.model").write_bytes(b"\x00")
    with pytest.raises(ConversionError, match="cannot be read"):
        sources.convert(tmp_path / "model", tmp_path / "damaged")
    (tmp_path / "weightless").mkdir()
    for path in sources.language.glob("tokenizer*"):
        (tmp_path / "weightless" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConversionError, match=r"lmsys/vicuna-7b-v1\.5 as a directory \(--language\)"):
        sources.convert(tmp_path / "model", tmp_path / "weightless")

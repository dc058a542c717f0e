"""Official-looking files, made of the goldens, converted and compared; and everything that must be refused."""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, Blip2Config, Blip2ForConditionalGeneration
from typer.testing import CliRunner

from dynrefer.model.convert import Conversion, convert, convert_command
from dynrefer.model.convert.assets import read_config
from dynrefer.model.convert.names import Dropped, bare_vision_block, translate
from dynrefer.model.convert.weight_files import open_directory, open_weights, write_shards
from dynrefer.model.errors import ConfigError, ConversionError, ModelError
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary
from tests.goldens_reader import attribute_prompts, features_of, prompt_rows, read_tensors
from tests.parity.reference import vision_tokens

torch.set_num_threads(1)


@dataclass(frozen=True)
class Sources:
    """What a user has, as arguments of `convert`."""

    weights: tuple[Path, ...]
    base: Path
    text_tower: Path
    language: Path
    official: Path
    config: Path

    def convert(self, out: Path) -> Conversion:
        """Convert to `out`."""
        return convert(
            out,
            self.weights,
            base=str(self.base),
            text_tower=self.text_tower,
            language=str(self.language),
            official=self.official,
            config=self.config,
        )

    def arguments(self, out: Path) -> list[str]:
        """The same as a command line."""
        weights = [part for path in self.weights for part in ("--weights", str(path))]
        rest = {"base": self.base, "text-tower": self.text_tower, "language": self.language}
        rest |= {"official": self.official, "config": self.config, "out": out}
        return weights + [part for name, path in rest.items() for part in (f"--{name}", str(path))]


def official_state(goldens: Path) -> dict[str, Tensor]:
    """The recorded weights, with what the file leaves out because it is an alias or computed."""
    state = load_file(goldens / "tiny_state_dict.safetensors")
    shared = state["t5_model.shared.weight"]
    state |= {f"t5_model.{side}.embed_tokens.weight": shared for side in ("encoder", "decoder")}
    embeddings = load_file(goldens / "text_encoder.safetensors")
    return state | {name: embeddings[name] for name in ("clip_embeds", "att_embeds", "ov_embeds")}


def base_name(key: str) -> str | None:
    """What BLIP-2 of transformers calls an official tensor that our table maps to the same class's name."""
    pieces = translate(key)
    if not isinstance(pieces, tuple) or len(pieces) != 1 or pieces[0].target_third is not None or pieces[0].alias:
        return None
    target = pieces[0].target
    for ours, theirs in (
        ("vision.tower.", "vision_model."),
        ("qformer.", "qformer."),
        ("query_tokens", "query_tokens"),
        ("language.projection.", "language_projection."),
        ("language.model.", "language_model."),
    ):
        if target.startswith(ours):
            return theirs + target.removeprefix(ours)
    return None


def write_base(state: dict[str, Tensor], folder: Path) -> Path:
    """BLIP-2 as transformers stores it, in two shards; its Q-Former is another one than DynRefer's."""
    folder.mkdir()
    base = {name: value.clone() for key, value in state.items() if (name := base_name(key))}
    for key, bias in state.items():
        if key.endswith("q_bias"):
            block = bare_vision_block(key.removeprefix("visual_encoder."))
            name = f"vision_model.encoder.layers.{block}.self_attn.qkv.bias"
            base[name] = torch.cat((bias, torch.zeros_like(bias), state[key.replace("q_bias", "v_bias")]))
        if "intermediate_query" in key or "output_query" in key:
            name = key.replace("Qformer.bert.", "qformer.").replace("_query", "")
            base[name] = torch.zeros_like(bias)  # the text branch, which BLIP-2's files carry
    base |= {name: torch.zeros_like(value) for name, value in base.items() if name.startswith("qformer.")}
    names = sorted(base)
    for part, some in enumerate((names[::2], names[1::2]), start=1):
        path = folder / f"model-0000{part}-of-00002.safetensors"
        save_file({name: base[name] for name in some}, path, metadata={"format": "pt"})
    return folder


def write_official(goldens: Path, folder: Path) -> Path:
    """The vocabulary files as they lie in the official repository, and its byte-pair table."""
    texts = json.loads((goldens / "text_lists.json").read_text(encoding="utf-8"))
    configs = folder / "dynrefer" / "models" / "model_configs"
    configs.mkdir(parents=True)
    (configs / "ram_tag_list.txt").write_text("\n".join(texts["tag_list"]) + "\n", encoding="utf-8")
    (configs / "coco.json").write_text(json.dumps(texts["ov_classes"]), encoding="utf-8")
    attributes = []
    for index, (name, prompts) in enumerate(zip(texts["attribute_names"], attribute_prompts(texts), strict=True)):
        template = "has" if any("  has " in prompt for prompt in prompts) else "is"
        attributes.append({"id": index, "name": name, "type": name.split(":")[0], "is_has_att": template})
    (configs / "ovad2000.json").write_text(json.dumps({"attributes": attributes, "images": []}), encoding="utf-8")
    tower = folder / "dynrefer" / "models" / "eva_clip"
    tower.mkdir()
    shutil.copy(goldens / "bpe_simple_vocab_16e6.txt.gz", tower)
    return folder


@pytest.fixture(scope="module")
def sources(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A released checkpoint, BLIP-2, EVA-CLIP, the tokenizer and the official repository."""
    folder = tmp_path_factory.mktemp("official")
    state = official_state(goldens)
    keys = json.loads((goldens / "checkpoint_keys.json").read_text())
    positions = keys["all_state_dict_keys"]["Qformer.bert.embeddings.position_ids"]
    state["Qformer.bert.embeddings.position_ids"] = torch.arange(positions[1])[None]
    released = {key: state[key].clone() for key in keys["saved_by_runner"]}
    torch.save({"model": released, "epoch": 4, "config": {"run": {}}}, folder / "vg1.2_5e.pth")
    tower = {key.replace("text_encoder.", "text."): value for key, value in state.items() if "text_encoder" in key}
    tower["visual.cls_token"] = torch.zeros(1, 1, 4)
    torch.save(tower, folder / "eva_clip_psz14.pt")
    return Sources(
        weights=(folder / "vg1.2_5e.pth",),
        base=write_base(state, folder / "blip2"),
        text_tower=folder / "eva_clip_psz14.pt",
        language=goldens / "t5_tokenizer",
        official=write_official(goldens, folder / "DynRefer"),
        config=goldens / "tiny_config.json",
    )


@pytest.fixture(scope="module")
def conversion(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The sources, converted once."""
    return sources.convert(tmp_path_factory.mktemp("out") / "model")


def test_converted_model_gives_the_recorded_outputs(conversion: Conversion, goldens: Path) -> None:
    network = DynReferModel.from_pretrained(conversion.out).eval()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    state, theirs = official_state(goldens), read_tensors(goldens, "intermediates")
    for name, official in (
        ("language.model.lm_head.weight", "t5_model.lm_head.weight"),
        ("language.model.decoder.embed_tokens.weight", "t5_model.shared.weight"),
        ("query_tokens", "query_tokens"),
    ):
        assert torch.equal(network.state_dict()[name], state[official].float()), name
    texts = TextEmbeddings.load(conversion.out)
    texts.check(Vocabulary.load(conversion.out), texts.tags.shape[1])
    with torch.no_grad():
        region = network.represent(features_of(theirs["vit_ln_vision"]), theirs["boxes"])
        tags = network.tag_decoder(region, texts.tags)
        attributes = network.region_text_decoder(region, texts.attributes)
    rows = prompt_rows(json.loads((goldens / "text_lists.json").read_text(encoding="utf-8")))
    for ours, recorded in (
        (region, theirs["qformer_out"]),
        (tags, theirs["tag_logits"]),
        (attributes, theirs["attr_syn_logits"][:, rows]),
    ):
        assert torch.allclose(ours, recorded, rtol=1e-4, atol=1e-4)


def test_converted_vision_tower_is_the_official_one(conversion: Conversion, goldens: Path) -> None:
    """On random images, by the official arithmetic, which `tests/parity` compares with the recorded numbers."""
    network = DynReferModel.from_pretrained(conversion.out).eval()
    config, size = network.config, network.config.view_size
    images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    heads = config.vision_config.num_attention_heads
    expected = vision_tokens(images, official_state(goldens), heads, config.image_mean, config.image_std)
    with torch.no_grad():
        found = network.encode(images)
    theirs = features_of(expected)
    assert found.cls is not None and theirs.cls is not None
    assert torch.allclose(found.map, theirs.map, rtol=1e-4, atol=1e-4)
    assert torch.allclose(found.cls, theirs.cls, rtol=1e-4, atol=1e-4)


def test_caption_of_the_converted_model(conversion: Conversion, goldens: Path) -> None:
    network = DynReferModel.from_pretrained(conversion.out).eval()
    tokenizer = AutoTokenizer.from_pretrained(conversion.out / "language_tokenizer")
    run = json.loads((goldens / "generation.json").read_text())["runs"]["C_official_yaml"]
    limit = network.config.max_control_tokens
    words = tokenizer(run["control_words"], padding=True, truncation=True, max_length=limit, return_tensors="pt")
    theirs = read_tensors(goldens, "intermediates")
    with torch.no_grad():
        region = network.represent(features_of(theirs["vit_ln_vision"]), theirs["boxes"])
        ours = network.language.generate(region, words["input_ids"], words["attention_mask"])
    assert tokenizer.batch_decode(ours.tokens, skip_special_tokens=True) == run["captions"]


def test_directory_holds_what_a_model_needs(conversion: Conversion, goldens: Path) -> None:
    out = conversion.out
    texts = json.loads((goldens / "text_lists.json").read_text(encoding="utf-8"))
    vocabulary = Vocabulary.load(out)
    assert list(vocabulary.tags) == texts["tag_list"]
    assert list(vocabulary.attribute_prompts) == texts["attribute_texts"]
    assert list(vocabulary.categories) == texts["ov_classes"]
    recorded = load_file(goldens / "text_encoder.safetensors")
    assert torch.allclose(TextEmbeddings.load(out).attributes, recorded["att_embeds"][prompt_rows(texts)], atol=1e-5)
    config = json.loads((out / "config.json").read_text())
    assert config["revision"] == conversion.revision
    assert config["generation"]["repetition_penalty"] == 1.5
    card = (out / "README.md").read_text()
    assert conversion.revision in card and "vg1.2_5e.pth" in card and "Visual Genome" in card
    for name in ("text_tokenizer", "language_tokenizer"):
        assert len(AutoTokenizer.from_pretrained(out / name)) > 0


def test_every_source_tensor_is_accounted_for(conversion: Conversion, sources: Sources) -> None:
    report = json.loads((conversion.out / "conversion.json").read_text())
    named = {entry for entries in report["used"].values() for entry in entries}
    named |= {f"{item['file']}: {item['key']}" for item in report["dropped"]}
    files = [open_weights(path) for path in (*sources.weights, sources.text_tower)] + open_directory(sources.base)
    assert named == {f"{file.path.name}: {key}" for file in files for key in file.shapes}
    reasons = {item["reason"] for item in report["dropped"]}
    assert "replaced by vg1.2_5e.pth" in reasons
    assert any("position_ids" in item["key"] and "text branch" in item["reason"] for item in report["dropped"])


def test_one_file_of_everything(sources: Sources, goldens: Path, conversion: Conversion, tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    save_file({key: value.clone() for key, value in official_state(goldens).items()}, whole)
    again = convert(
        tmp_path / "model",
        [whole],
        language=str(sources.language),
        official=sources.official,
        config=sources.config,
    )
    assert again.revision == conversion.revision
    assert not list(tmp_path.glob(".*partial"))


def test_parts_of_the_base_instead_of_the_base(sources: Sources, goldens: Path, tmp_path: Path) -> None:
    """EVA's own file, with a block too many, the first BLIP-2 file and Flan-T5 in place of the whole base."""
    state = official_state(goldens)
    eva = {key.removeprefix("visual_encoder."): value for key, value in state.items() if "visual_encoder" in key}
    blocks = {bare_vision_block(key) for key in eva} - {None}
    last = f"blocks.{len(blocks)}.norm1.weight"
    torch.save({**eva, last: eva["blocks.0.norm1.weight"], "norm.weight": torch.ones(3)}, tmp_path / "eva_vit_g.pth")
    first = {key: state[key] for key in ("ln_vision.weight", "ln_vision.bias", "query_tokens")}
    torch.save({"model": first}, tmp_path / "blip2_pretrained_flant5xl.pth")
    language = tmp_path / "flan-t5-xl"
    shutil.copytree(sources.language, language)
    t5 = {key.removeprefix("t5_model."): value for key, value in state.items() if key.startswith("t5_model.")}
    torch.save({key: value for key, value in t5.items() if "shared" not in key}, language / "pytorch_model.bin")
    done = convert(
        tmp_path / "model",
        [tmp_path / "eva_vit_g.pth", tmp_path / "blip2_pretrained_flant5xl.pth", *sources.weights],
        text_tower=sources.text_tower,
        language=str(language),
        official=sources.official,
        config=sources.config,
    )
    dropped = {key for _, key in done.plan.dropped}
    assert {last, "norm.weight", "visual.cls_token"} <= dropped
    assert DynReferModel.from_pretrained(done.out).config.revision == done.revision


def test_base_has_the_names_of_transformers(sources: Sources) -> None:
    """Our stand-in for BLIP-2 holds what the class of transformers holds, and the text branch of its Q-Former."""
    config = read_config(sources.config)
    parts = {"vision_config": config.vision_config, "qformer_config": config.qformer_config}
    with torch.device("meta"):
        blip2 = Blip2ForConditionalGeneration(
            Blip2Config(**parts, text_config=config.language_config, num_query_tokens=config.num_queries)
        )
    theirs = {name: tuple(value.shape) for name, value in blip2.state_dict().items() if "embed_tokens" not in name}
    ours = {name: shape for file in open_directory(sources.base) for name, shape in file.shapes.items()}
    text_branch = {name for name in ours if isinstance(translate(name), Dropped)}
    assert {name: shape for name, shape in ours.items() if name not in text_branch} == theirs


def test_shards_and_their_index(tmp_path: Path) -> None:
    tensors = {f"tensor{index}": torch.randn(10) for index in range(5)}
    revision = write_shards(tmp_path, tensors, tensors.__getitem__, shard_bytes=100)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(tensors)
    assert index["metadata"]["total_size"] == 5 * 40
    assert len(set(index["weight_map"].values())) == 3
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])
    tensors["tensor4"][0] += 1
    assert write_shards(tmp_path, tensors, tensors.__getitem__) != revision


def altered(path: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a .pth state dict, changed."""
    state = torch.load(path, weights_only=True)
    change(state.get("model", state))
    torch.save(state, folder / path.name)
    return folder / path.name


Change = Callable[[Sources, Path], Sources]


def _missing_file(sources: Sources, folder: Path) -> Sources:
    return replace(sources, weights=(folder / "nowhere.pth",))


def _missing_text_tower(sources: Sources, _: Path) -> Sources:
    return replace(sources, text_tower=sources.weights[0])


def _missing_base(sources: Sources, folder: Path) -> Sources:
    (folder / "empty").mkdir()
    return replace(sources, base=folder / "empty")


def _missing_tensor(sources: Sources, folder: Path) -> Sources:
    return replace(sources, weights=(altered(sources.weights[0], folder, lambda s: s.pop("cem_memory")),))


def _wrong_shape(sources: Sources, folder: Path) -> Sources:
    path = altered(sources.weights[0], folder, lambda s: s.update(cem_memory=torch.zeros(7)))
    return replace(sources, weights=(path,))


def _unknown_key(sources: Sources, folder: Path) -> Sources:
    path = altered(sources.weights[0], folder, lambda s: s.update({"cvem_algin.weight": torch.zeros(7)}))
    return replace(sources, weights=(path,))


def _no_tensor(sources: Sources, folder: Path) -> Sources:
    return replace(sources, weights=(altered(sources.weights[0], folder, lambda s: s.update(epoch=3)),))


def _truncated(sources: Sources, folder: Path) -> Sources:
    (folder / "cut.pth").write_bytes(sources.weights[0].read_bytes()[:5000])
    return replace(sources, weights=(folder / "cut.pth",))


def _corrupt_safetensors(sources: Sources, folder: Path) -> Sources:
    (folder / "bad.safetensors").write_bytes(b"\xff" * 100)
    return replace(sources, weights=(folder / "bad.safetensors",))


def _pickled_code(sources: Sources, folder: Path) -> Sources:
    torch.save({"model": Path}, folder / "evil.pth")
    return replace(sources, weights=(folder / "evil.pth",))


def _no_weights(sources: Sources, folder: Path) -> Sources:
    (folder / "notes.txt").write_text("nothing")
    return replace(sources, weights=(folder / "notes.txt",))


def _no_vocabulary(sources: Sources, folder: Path) -> Sources:
    shutil.copytree(sources.official, folder / "half")
    next((folder / "half").rglob("ovad2000.json")).unlink()
    return replace(sources, official=folder / "half")


def _bad_vocabulary(sources: Sources, folder: Path) -> Sources:
    shutil.copytree(sources.official, folder / "bad")
    next((folder / "bad").rglob("ovad2000.json")).write_text('{"images": []}')
    return replace(sources, official=folder / "bad")


def _bad_byte_pairs(sources: Sources, folder: Path) -> Sources:
    shutil.copytree(sources.official, folder / "pairs")
    next((folder / "pairs").rglob("bpe*.gz")).write_bytes(gzip.compress(b"#version\na b\n"))
    return replace(sources, official=folder / "pairs")


def _no_tokenizer(sources: Sources, folder: Path) -> Sources:
    (folder / "bare").mkdir()
    return replace(sources, language=folder / "bare")


def _other_sizes(sources: Sources, folder: Path) -> Sources:
    document = json.loads(sources.config.read_text())
    document["cfg"]["t5"]["d_model"] *= 2
    (folder / "sizes.json").write_text(json.dumps(document))
    return replace(sources, config=folder / "sizes.json")


def _unknown_setting(sources: Sources, folder: Path) -> Sources:
    (folder / "config.json").write_text('{"num_vews": 3}')
    return replace(sources, config=folder / "config.json")


def _depth_too_small(sources: Sources, folder: Path) -> Sources:
    document = json.loads(sources.config.read_text())
    document["cfg"]["text"]["layers"] -= 1
    (folder / "shallow.json").write_text(json.dumps(document))
    return replace(sources, config=folder / "shallow.json")


REFUSED: list[tuple[Change, type[ModelError], tuple[str, ...]]] = [
    (_missing_file, ConversionError, ("nowhere.pth", "no weight file")),
    (_missing_text_tower, ConversionError, ("text tower", "eva_clip_psz14.pt", "--text-tower")),
    (_missing_base, ConversionError, ("vision tower", "language model", "Salesforce/blip2-flan-t5-xl", "--base")),
    (_missing_tensor, ConversionError, ("language.control_memory", "vg1.2_5e.pth", "--weights")),
    (_wrong_shape, ConversionError, ("cem_memory", "has the shape 7", "--config")),
    (_unknown_key, ConversionError, ("cvem_algin.weight", "not known")),
    (_no_tensor, ConversionError, ("epoch", "no tensor")),
    (_truncated, ConversionError, ("cut.pth", "not a readable weight file")),
    (_corrupt_safetensors, ConversionError, ("bad.safetensors", "not a readable safetensors file")),
    (_pickled_code, ConversionError, ("evil.pth", "not read because")),
    (_no_weights, ConversionError, ("notes.txt", ".safetensors")),
    (_no_vocabulary, ConversionError, ("ovad2000.json", "--official")),
    (_bad_vocabulary, ConversionError, ("ovad2000.json", "attributes")),
    (_bad_byte_pairs, ConversionError, ("bpe_simple_vocab_16e6.txt.gz", "tokens")),
    (_no_tokenizer, ConversionError, ("tokenizer is missing", "--language")),
    (_other_sizes, ConversionError, ("needs", "--config")),
    (_unknown_setting, ConfigError, ("num_vews", "num_views")),
    (_depth_too_small, ConversionError, ("no place", "--config")),
]


@pytest.mark.parametrize(("change", "error", "parts"), REFUSED, ids=[change.__name__[1:] for change, *_ in REFUSED])
def test_refused_in_one_sentence(
    change: Change, error: type[ModelError], parts: tuple[str, ...], sources: Sources, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    with pytest.raises(error) as caught:
        change(sources, folder).convert(tmp_path / "model")
    sentence = str(caught.value)
    assert all(part in sentence for part in parts), sentence
    assert sentence.endswith((".", "?")) and "\n" not in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["given"]  # nothing was left behind


def test_failure_while_writing_leaves_nothing(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Vocabulary, "save", full)
    with pytest.raises(ConversionError, match="No space left on device"):
        sources.convert(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_existing_directory(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("precious")
    with pytest.raises(ConversionError, match="not an empty directory"):
        sources.convert(tmp_path / "model")
    assert (tmp_path / "model" / "mine.txt").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert (sources.convert(tmp_path / "empty").out / "config.json").is_file()


def test_official_repository_is_needed(sources: Sources, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="--official"):
        convert(tmp_path / "model", sources.weights)


def test_command(sources: Sources, conversion: Conversion, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(convert_command)
    result = CliRunner().invoke(app, sources.arguments(tmp_path / "model"))
    assert result.exit_code == 0, result.output
    assert conversion.revision in result.output
    assert "dropped" in result.output and "text branch of the Q-Former" in result.output

"""Every file of a model directory, spoilt in every way: one sentence of the model's own errors that names the file.

A change that leaves a valid directory may load; then it must describe too. Small random networks are loaded in this
process; `tests/service/server/test_start.py` has the exit code and the one line of a real one.
"""

import json
import os
import resource
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynrefer.model import DynRefer, ModelError
from dynrefer.model.evidence.colour import ColourParameters
from dynrefer.model.evidence.evidence import Evidence
from dynrefer.model.evidence.fusion import Fusion
from dynrefer.model.evidence.gate import DrawnFeatures, Gate
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.loading import EMBEDDED, load_model
from dynrefer.model.networks.dynrefer.config import DynReferConfig
from dynrefer.model.tokenizers import load_tokenizer
from dynrefer.model.vocabulary import Vocabulary
from tests.workbench.training.conftest import write_tiny_model

Spoil = Callable[[Path], object]
EVIDENCE = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))["evidence"]
IMAGE = np.zeros((64, 64, 3), np.uint8) + np.arange(64, dtype=np.uint8)[:, None, None]
MAX_GROWTH = 400 << 20  # bytes that refusing a directory may take, whatever sizes it declares


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random network and no evidence."""
    torch.set_num_threads(1)
    return write_tiny_model(tmp_path_factory.mktemp("whole") / "model", evidence=None)


@pytest.fixture
def directory(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """A directory with the evidence alone."""
    shutil.copytree(EMBEDDED / "evidence", tmp_path / "evidence")
    return tmp_path


def refused(load: Callable[[], object], name: str) -> None:
    """Loading ends in one sentence that names the file or its folder, without a warning and without much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ModelError) as caught:
            load()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith((".", "?")), sentence
    assert len(sentence) < 700, sentence
    assert name in sentence or Path(name).parent.name in sentence.split("'")[1].split("/"), sentence
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_GROWTH


def refused_or_harmless(directory: Path, name: str) -> None:
    """Where a change may happen to be valid, the model must then work."""
    try:
        model = DynRefer.load(directory, device="cpu", dtype="float32")
    except ModelError as error:
        sentence = str(error)
        assert "\n" not in sentence and name in sentence, sentence
        return
    model.describe(IMAGE, [(8, 8, 40, 40)])


# Any file


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)) * 40)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def enormous(path: Path) -> None:
    """100 GB that take no space on the disk."""
    with path.open("wb") as file:
        file.truncate(100 << 30)


ANYWAY: tuple[Spoil, ...] = (missing, empty, truncated, noise, folder, pipe, dangling, enormous)
FILES = (
    "config.json",
    "vocabulary.json",
    "model.safetensors",
    "text_embeddings.safetensors",
    "language_tokenizer/tokenizer.json",
    "language_tokenizer/tokenizer_config.json",
)
EVIDENCE_FILES = ("tower.onnx", "detector.onnx", "names.json", "nouns.safetensors", "gate.safetensors")
TEXT_FILES = ("text_tokenizer/tokenizer.json", "text_tokenizer/tokenizer_config.json")


@pytest.mark.parametrize("spoil", ANYWAY, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", FILES)
def test_any_file(name: str, spoil: Spoil, directory: Path) -> None:
    spoil(directory / name)
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), name)


@pytest.mark.parametrize("spoil", ANYWAY, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", EVIDENCE_FILES)
def test_any_file_of_the_evidence(name: str, spoil: Spoil, evidence: Path) -> None:
    spoil(evidence / "evidence" / name)
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), name)


@pytest.mark.parametrize("spoil", ANYWAY, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", TEXT_FILES)
def test_any_file_of_the_text_tokenizer(name: str, spoil: Spoil, directory: Path) -> None:
    spoil(directory / name)
    refused(lambda: load_tokenizer(directory / "text_tokenizer", 1 << 20), name)
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), name)


@pytest.mark.parametrize("name", [*FILES, *TEXT_FILES])
@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(name: str, directory: Path) -> None:
    (directory / name).chmod(0)
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), name)


# JSON

DOCUMENTS = ("[]", "null", "{}", "5", '"text"', "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}')
JSON_FILES = [name for name in FILES if name.endswith(".json")]
VALUES = (None, [], {}, "text", -1, 0, 2.5, True, 10**12, 10**400, [1], {"a": 1})


@pytest.mark.parametrize("text", DOCUMENTS, ids=lambda text: text[:12])
@pytest.mark.parametrize("name", JSON_FILES)
def test_other_documents(name: str, text: str, directory: Path) -> None:
    (directory / name).write_text(text)
    if name == "language_tokenizer/tokenizer_config.json" and text in ("{}", '{"a": 1, "a": 2}'):
        refused_or_harmless(directory, "language_tokenizer")
    else:
        refused(lambda: load_model(directory, device="cpu", dtype="float32"), name)


@pytest.mark.parametrize("text", DOCUMENTS, ids=lambda text: text[:12])
def test_other_documents_as_names_of_the_evidence(text: str, evidence: Path) -> None:
    (evidence / "evidence/names.json").write_text(text)
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "names.json")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, of a list the first item alone."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def changed(document: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place."""
    copy = json.loads(json.dumps(document))
    inside = copy
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = value
    return copy


def test_every_value_of_the_configuration(whole: Path) -> None:
    """A value of another type is refused by its name. What is accepted was a valid value, and leaves valid settings."""
    document = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    del document["model_type"]
    for at in places(document):
        words = (next(str(part) for part in reversed(at) if isinstance(part, str)), str(at[0]).removesuffix("_config"))
        for value in (None, [], "text", -1, 10**400, {"a": 1}):
            try:
                DynReferConfig(**changed(document, at, value))
            except ModelError as error:
                assert "\n" not in str(error) and len(str(error)) < 500, (at, value, str(error))
                assert any(word in str(error) for word in words), (at, value, str(error))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("view_size", "64"),
        ("num_views", 2.5),
        ("num_views", 10**9),
        ("vision_config", 5),
        ("text_config", []),
        ("language_config", "t5"),
        ("language_config.model_type", []),
        ("language_config.vocab_size", -1),
        ("language_config.vocab_size", 10**12),
        ("language_config.num_layers", 10**6),
        ("language_config.pad_token_id", 10**6),
        ("language_config.eos_token_id", None),
        ("text_config.hidden_size", "128"),
        ("qformer_config.num_attention_heads", 7),
        ("qformer_config.hidden_act", "text"),
        ("vision_config.model_type", "bert"),
        ("vision_config.depths", [1, 10**9]),
        ("generation.length_penalty", 1e12),
        ("generation.num_beams", 0),
        ("calibration", {"tags": 1}),
        ("calibration", {"tags": {"scale": 0, "bias": 0}}),
        ("thresholds", {"tags": None}),
        ("task_priors", {"caption": "0"}),
        ("dtype", "float99"),
        ("dtype", "load"),
        ("dtype", "int8"),
        ("torch_dtype", "float99"),
        ("decoder_heads", 7),
        ("self", 1),
    ],
)
def test_values_of_the_configuration(key: str, value: object, directory: Path) -> None:
    path = directory / "config.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(changed(document, tuple(key.split(".")), value)))
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), "config.json")


@pytest.mark.parametrize("part", ["fusion", "gate", "colour"])
def test_values_of_the_evidences_settings(part: str) -> None:
    names, ones = EvidenceNames.load(EMBEDDED / "evidence/names.json"), np.ones((1, 4), np.float32)
    drawn = DrawnFeatures(ones[0], ones[0], ones)
    read: dict[str, Callable[[Any], object]] = {
        "fusion": lambda settings: Fusion.from_config(settings, names),
        "gate": lambda settings: Gate.from_config(settings, drawn, drawn),
        "colour": ColourParameters.from_mapping,
    }
    for at in ((), *((key,) for key in EVIDENCE[part])):
        for value in (None, [], {}, "text", True, 10**400, 1e30, [None], ["text"], [10**400], {"a": 1}):
            settings = changed({part: EVIDENCE[part]}, (part, *at), value)[part]
            refused(lambda settings=settings: read[part](settings), part)


def test_settings_of_the_evidence_are_named_with_their_file(evidence: Path) -> None:
    for settings in (5, {}, {**EVIDENCE, "odd": 1}, {**EVIDENCE, "gate": None}):
        refused(lambda settings=settings: Evidence.load(evidence, settings, 1), "config.json")


@pytest.mark.parametrize("key", ["tags", "attributes", "categories"])
def test_every_value_of_the_vocabulary(key: str, directory: Path) -> None:
    path = directory / "vocabulary.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for at in [place for place in places(document) if place[0] == key]:
        for value in VALUES:
            if isinstance(value, type(before := inside(document, at))) and (value or not isinstance(before, list)):
                continue
            path.write_text(json.dumps(changed(document, at, value)))
            refused(lambda: load_vocabulary(directory), "vocabulary")


def inside(document: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        document = document[key]
    return document


def load_vocabulary(directory: Path) -> None:
    from dynrefer.model.vocabulary import TextEmbeddings

    TextEmbeddings.load(directory).check(Vocabulary.load(directory), 24)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_every_value_of_a_tokenizer(file: str, directory: Path) -> None:
    """The libraries take many values as they come, so a changed tokenizer is refused or tokenizes."""
    path = directory / "language_tokenizer" / file
    document = json.loads(path.read_text(encoding="utf-8"))
    size = json.loads((directory / "config.json").read_text())["language_config"]["vocab_size"]
    fields = [at for at in places(document) if len(at) == 1 or at[0] == "model" and len(at) == 2]
    for at in [*fields, ("extra_ids",), ("auto_map",), ("added_tokens_decoder",)]:
        for value in (None, [], "text", -1, 10**12, {"a": 1}):
            path.write_text(json.dumps(changed(document, at, value)))
            try:
                load_tokenizer(path.parent, size)
            except ModelError as error:
                assert "\n" not in str(error) and "language_tokenizer" in str(error), (at, value, str(error))


def test_a_tokenizer_with_more_tokens_than_the_network(directory: Path) -> None:
    path = directory / "language_tokenizer/tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["model"]["vocab"] += [[f"more{i}", -20.0] for i in range(3000)]
    path.write_text(json.dumps(document))
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), "language_tokenizer")


# Tensors


def float_name(held: dict[str, Tensor]) -> str:
    return min(name for name, value in held.items() if value.dim() > 1)


def put(value: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    return lambda held: held.update({float_name(held): value(held[float_name(held)]).contiguous()})


TENSORS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "int64": put(lambda value: value.to(torch.int64)),
    "bool": put(lambda value: value.to(torch.bool)),
    "complex": put(lambda value: value.to(torch.complex64)),
    "float8": put(lambda value: value.to(torch.float8_e4m3fn)),
    "transposed": put(lambda value: value.transpose(0, 1)[:, :-1]),
    "flat": put(torch.flatten),
    "without dimension": put(lambda _: torch.tensor(1.0)),
    "without rows": put(lambda value: value[:0]),
    "one more dimension": put(lambda value: value[None]),
    "one row more": put(lambda value: torch.cat((value, value[-1:]))),
    "NaN": put(lambda value: torch.full_like(value, float("nan"))),
    "one NaN": put(lambda value: torch.where(torch.arange(value.numel()).view(value.shape) == 3, torch.nan, value)),
    "infinity": put(lambda value: torch.full_like(value, float("-inf"))),
    "missing": lambda held: held.pop(float_name(held)),
    "one more": lambda held: held.update(odd=torch.ones(2)),
    "nothing": lambda held: held.clear(),
}


@pytest.mark.parametrize("spoil", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("name", ["model.safetensors", "text_embeddings.safetensors"])
def test_tensors(name: str, spoil: Callable[[dict[str, Tensor]], object], directory: Path) -> None:
    held = load_file(directory / name)
    spoil(held)
    save_file(held, directory / name, metadata={"format": "pt"})
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), "weights in" if "model" in name else name)


@pytest.mark.parametrize("spoil", TENSORS.values(), ids=TENSORS)
def test_tensors_of_the_gate(spoil: Callable[[dict[str, Tensor]], object], evidence: Path) -> None:
    path = evidence / "evidence/gate.safetensors"
    held = load_file(path)
    spoil(held)
    save_file(held, path)
    if spoil is TENSORS["without rows"] or spoil is TENSORS["one row more"]:  # principal directions, of any number
        return
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "gate")


HEADERS = {
    "huge": '{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    "overflowing": '{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,16]}}',
    "negative": '{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}',
    "unknown type": '{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}',
    "no object": '{"a":5}',
    "metadata": '{"__metadata__":5}',
    "nothing": "{}",
    "no JSON": "{",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("name", ["model.safetensors", "text_embeddings.safetensors"])
def test_headers(name: str, header: str, directory: Path) -> None:
    for length in (len(header), 1 << 20, 1 << 40, (1 << 64) - 1):
        (directory / name).write_bytes(struct.pack("<Q", length) + header.encode() + bytes(16))
        refused(lambda: load_model(directory, device="cpu", dtype="float32"), name)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        '{"weight_map": 5}',
        '{"weight_map": {"a": 5}}',
        '{"weight_map": {"a": "../a"}}',
        '{"weight_map": {"a": "b"}}',
        '{"weight_map": {}}',
        "{",
    ],
)
def test_index_of_shards(index: str, directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(index)
    refused(lambda: load_model(directory, device="cpu", dtype="float32"), "model")


# ONNX


@pytest.mark.parametrize(("name", "other"), [("tower.onnx", "detector.onnx"), ("detector.onnx", "tower.onnx")])
def test_the_other_network(name: str, other: str, evidence: Path) -> None:
    shutil.copy(EMBEDDED / "evidence" / other, evidence / "evidence" / name)
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), name)


@pytest.mark.parametrize("name", ["tower.onnx", "detector.onnx"])
def test_what_the_runtime_prints(name: str, evidence: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The name of an operator is not UTF-8: the runtime's own fallback would print of it."""
    path = evidence / "evidence" / name
    path.write_bytes(path.read_bytes().replace(b'"\x04Conv', b'"\x04\xff\xfe\xfd\xfc'))
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_computes_no_numbers(value: float, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [np.full(shape, value, np.float32) for shape in ((1, 1000), (1, 1280, 7, 7), (1000, 1280))]
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *_: outputs)
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "tower.onnx")
    monkeypatch.setattr(onnxruntime.InferenceSession, "run", lambda *_: outputs[::-1])
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "tower.onnx")


def test_names_that_lack_a_class_of_coco(evidence: Path) -> None:
    path = evidence / "evidence/names.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    place = next(i for i, entry in enumerate(document["names"]) if entry["name"] == "person")
    path.write_text(json.dumps(changed(document, ("names", place, "coco"), "persona")))
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "names.json")
    for entry in document["names"]:
        entry["coco"] = None
    path.write_text(json.dumps(document))
    refused(lambda: Evidence.load(evidence, EVIDENCE, 1), "names.json")

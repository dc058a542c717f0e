"""Vocabularies: prompts, files, and what a malformed file is answered with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dynrefer.model.errors import ConfigError, ModelNotFoundError, WeightsError
from dynrefer.model.vocabulary import EMBEDDINGS_FILE, VOCABULARY_FILE, Attribute, TextEmbeddings, Vocabulary

VOCABULARY = Vocabulary(
    tags=("dog", "café"),
    attributes=(
        Attribute("color:red", "color", ("red", "crimson"), "is"),
        Attribute("hair tone:dark", "hair tone", ("dark",), "has"),
    ),
    categories=("Dog", "traffic light"),
)
EMBEDDINGS = TextEmbeddings(torch.randn(2, 4), torch.randn(6, 4), torch.randn(2, 4))


def test_prompts() -> None:
    assert VOCABULARY.attribute_prompts == (
        "the red",
        "the  is red",
        "the crimson",
        "the  is crimson",
        "the dark hair",
        "the  has dark hair",
    )
    assert VOCABULARY.attribute_owner == (0, 0, 0, 0, 1, 1)
    assert VOCABULARY.category_prompts == ("the dog", "the traffic light")
    assert VOCABULARY.attributes[0].value == "red"


def test_benchmark_names() -> None:
    adult = Attribute.from_benchmark("maturity:adult/old/aged", "is")
    assert adult.type == "maturity" and adult.synonyms == ("adult", "old", "aged", "teen", "elder")
    assert Attribute.from_benchmark("hair type:curly/curled", "has").synonyms == ("curly", "curled")
    for name in ("red", "color:", ":red"):
        with pytest.raises(ConfigError, match="type:value"):
            Attribute.from_benchmark(name, "is")


def test_round_trip(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    EMBEDDINGS.save(tmp_path)
    assert Vocabulary.load(tmp_path) == VOCABULARY
    assert "café" in (tmp_path / VOCABULARY_FILE).read_text(encoding="utf-8")
    loaded = TextEmbeddings.load(tmp_path)
    assert torch.equal(loaded.attributes, EMBEDDINGS.attributes)
    loaded.check(VOCABULARY, loaded.tags.shape[1])


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    half = TextEmbeddings(*(getattr(EMBEDDINGS, name).half() for name in ("tags", "attributes", "categories")))
    half.save(tmp_path)
    assert TextEmbeddings.load(tmp_path).tags.dtype == torch.float32


def document(**changes: Any) -> dict[str, Any]:
    """A well-formed file, changed."""
    attribute = {"name": "color:red", "type": "color", "synonyms": ["red"], "template": "is"}
    return {"tags": ["dog"], "attributes": [attribute], "categories": ["dog"], **changes}


def attribute(**changes: Any) -> dict[str, Any]:
    """A file whose only attribute is changed."""
    return document(attributes=[{**document()["attributes"][0], **changes}])


BAD: dict[str, tuple[Any, tuple[str, ...]]] = {
    "unknown key": (document(colours=[]), ("unknown key 'colours'", "tags")),
    "missing key": ({"tags": [], "attributes": []}, ("'categories' is missing",)),
    "no object": ([], ("not a JSON object",)),
    "no list": (document(tags="dog"), ("tags", "not a list of texts")),
    "no texts": (document(categories=[1]), ("categories", "not a list of texts")),
    "no records": (document(attributes=["red"]), ("attributes", "not a list of objects")),
    "unknown key of an attribute": (attribute(noun="dog"), ("'noun'", "attributes[0]")),
    "template": (attribute(template="was"), ("'was'", '"is" or "has"')),
    "name": (attribute(name=3), ("name of attributes[0]", "not a text")),
    "no synonym": (attribute(synonyms=[]), ("synonyms of attributes[0]", "empty")),
}


@pytest.mark.parametrize(("data", "parts"), BAD.values(), ids=BAD)
def test_malformed_vocabulary(data: Any, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / VOCABULARY_FILE).write_text(json.dumps(data))
    with pytest.raises(ConfigError) as caught:
        Vocabulary.load(tmp_path)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=VOCABULARY_FILE):
        Vocabulary.load(tmp_path)
    with pytest.raises(ModelNotFoundError, match=EMBEDDINGS_FILE):
        TextEmbeddings.load(tmp_path)
    (tmp_path / VOCABULARY_FILE).write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        Vocabulary.load(tmp_path)
    (tmp_path / EMBEDDINGS_FILE).write_bytes(b"\xff" * 30)
    with pytest.raises(WeightsError, match="not a complete safetensors"):
        TextEmbeddings.load(tmp_path)


def test_embeddings_of_another_vocabulary(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    width = EMBEDDINGS.tags.shape[1]
    with pytest.raises(WeightsError, match="5 attributes but the vocabulary has 6"):
        TextEmbeddings(EMBEDDINGS.tags, EMBEDDINGS.attributes[:5], EMBEDDINGS.categories).check(VOCABULARY, width)
    with pytest.raises(WeightsError, match=f"has width {width + 1}"):
        EMBEDDINGS.check(VOCABULARY, width + 1)
    save_file({"tags": EMBEDDINGS.tags}, tmp_path / EMBEDDINGS_FILE)
    with pytest.raises(WeightsError, match="lacks 'attributes'"):
        TextEmbeddings.load(tmp_path)


def test_records_load_no_torch() -> None:
    code = "import sys, dynrefer.model.vocabulary; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

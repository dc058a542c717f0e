"""What the language model is to write, for both kinds of tokenizers."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from dynrefer.model.convert.vicuna_tokenizer import vicuna_tokenizer
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.workbench.training.caption_labels import caption_labels
from tests.model.convert.vicuna_sources import llama_config, write_vicuna

CAPTIONS = ["a brown dog lying on the street", "a car", ""]


@pytest.mark.parametrize("longest", [32, 5, 1])
def test_a_tokenizer_that_ends_texts_itself(longest: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "language_tokenizer")
    found = tokenizer(CAPTIONS, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    expected = found.input_ids.masked_fill(found.attention_mask == 0, IGNORED)
    assert caption_labels(tokenizer, CAPTIONS, longest).tolist() == expected.tolist()


def test_a_tokenizer_that_begins_texts_instead(tmp_path: Path) -> None:
    tokenizer = vicuna_tokenizer(write_vicuna(tmp_path / "vicuna"), llama_config())
    rows = [[each for each in row if each != IGNORED] for row in caption_labels(tokenizer, CAPTIONS, 32).tolist()]
    assert [row[-1] for row in rows] == [2, 2, 2] and all(2 not in row[:-1] for row in rows)
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in rows] == CAPTIONS

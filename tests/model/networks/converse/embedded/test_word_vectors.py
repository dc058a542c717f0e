"""Words' vectors: a file that is read back, words that are used alike, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from dynrefer.model.errors import ModelNotFoundError, WeightsError
from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.model.networks.converse.loading import FOLDER


@pytest.fixture(scope="module")
def shipped() -> WordVectors:
    return WordVectors.load(model_directory("embedded") / FOLDER / WORD_VECTORS)


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [("sofa", "couch", "gravity"), ("locate", "find", "purple"), ("enormous", "huge", "whisper")],
)
def test_words_that_are_used_alike_are_near(shipped: WordVectors, word: str, near: str, far: str) -> None:
    own, close, distant = shipped.of([word, near, far])
    assert own @ close > 0.5 > own @ distant
    assert np.linalg.norm(own) == pytest.approx(1, abs=0.02)


def test_a_word_that_has_none_is_zeros(shipped: WordVectors) -> None:
    assert not shipped.of(["", "zzxq", "<noun>", "?"]).any()
    assert shipped.of([]).shape == (0, shipped.size)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = WordVectors.made(["a", "b", "c"], np.random.default_rng(0).normal(3, 1, (3, 5)).astype(np.float32))
    (tmp_path / WORD_VECTORS).write_bytes(made.to_bytes())
    read = WordVectors.load(tmp_path / WORD_VECTORS)
    assert read.words == ("a", "b", "c") and np.array_equal(read.stored, made.stored)


@pytest.mark.parametrize(
    "tensors",
    [
        {"words": np.frombuffer(b"a\nb", np.uint8), "vectors": np.zeros((3, 4), np.int8)},
        {"words": np.frombuffer(b"a\nb", np.uint8), "vectors": np.zeros((2, 4), np.float32)},
        {"words": np.frombuffer(b"\xff", np.uint8), "vectors": np.zeros((1, 4), np.int8)},
        {"words": np.frombuffer(b"a", np.uint8)},
        {"words": np.frombuffer(b"a\na", np.uint8), "vectors": np.zeros((2, 4), np.int8)},
        {"words": np.zeros(0, np.uint8), "vectors": np.zeros((1, 4), np.int8)},
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, tmp_path / WORD_VECTORS)
    with pytest.raises(WeightsError, match=WORD_VECTORS):
        WordVectors.load(tmp_path / WORD_VECTORS)


def test_a_file_of_numbers_that_numpy_has_not_is_refused(tmp_path: Path) -> None:
    words = torch.tensor([97], dtype=torch.uint8)
    save_torch_file({"words": words, "vectors": torch.zeros(1, 4, dtype=torch.bfloat16)}, tmp_path / WORD_VECTORS)
    with pytest.raises(WeightsError, match=WORD_VECTORS):
        WordVectors.load(tmp_path / WORD_VECTORS)


def test_a_file_of_something_else_and_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="vectors"):
        WordVectors.load(tmp_path / WORD_VECTORS)
    (tmp_path / WORD_VECTORS).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=WORD_VECTORS):
        WordVectors.load(tmp_path / WORD_VECTORS)

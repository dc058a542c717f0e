"""The command that makes the words' vectors, and the words that stand for those of questions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dynrefer.model.networks.converse.embedded.word_vectors import WORD_VECTORS, WordVectors
from dynrefer.workbench.training.converse import word_vectors as command
from dynrefer.workbench.training.converse.samples import Samples
from dynrefer.workbench.training.converse.words_alike import WordsAlike


def _run(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["word_vectors", *given])
    command.main()


def test_a_table_becomes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    words = ["the", ",", "Red", "cat", "don't", "sofa", "rare"]
    vectors = {word: [*random.normal(0, 1, 100).tolist(), 1.0, place] for place, word in enumerate(words)}
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"words": words, "vectors": vectors}))
    _run(monkeypatch, "--table", str(table), "--words", "3", "--out", str(tmp_path / "made"))
    made = WordVectors.load(tmp_path / "made" / WORD_VECTORS)
    assert made.words == ("the", "cat", "sofa") and made.size == 100


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"words": ["a"], "vectors": {"a": [1, 2]}}', '{"words": [], "vectors": {}}']
)
def test_what_is_no_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "table.json").write_text(text)
    for name in ("table.json", "missing.json"):
        with pytest.raises(SystemExit, match="2"):
            _run(monkeypatch, "--table", str(tmp_path / name), "--out", str(tmp_path))
        assert f"--table '{tmp_path / name}'" in capsys.readouterr().err
    assert not (tmp_path / WORD_VECTORS).exists()


def test_words_alike_are_unknown_and_leave_what_decides(samples: Samples) -> None:
    lexicon = samples.lexicon
    alike = WordsAlike(lexicon, samples.vectors)
    assert not set(alike.words) & (set(lexicon.words) | set(lexicon.nouns))
    of = {word: {alike.words[row] for row in rows} for word, rows in zip(lexicon.words, alike.rows, strict=True)}
    assert sum(map(bool, of.values())) > 50
    for word in ("red", "above", "larger", "not", "what", "?"):
        assert not of.get(word)
    for word, others in of.items():
        own, *near = samples.vectors.of([word, *sorted(others)])
        assert all(own @ each > 0.5 for each in near), word

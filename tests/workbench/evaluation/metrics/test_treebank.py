"""Our tokens equal the Penn Treebank tokenizer's: its recorded output and, with Java, its current output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynrefer.workbench.errors import MissingJavaError
from dynrefer.workbench.evaluation.metrics import java
from dynrefer.workbench.evaluation.metrics.java import ptb_tokens
from dynrefer.workbench.evaluation.metrics.treebank import tokenise
from tests.system_programs import needs_java

# text -> words, written by `python -m tests.workbench.evaluation.metrics.record_treebank`, which runs the Java program.
RECORDED: dict[str, str] = json.loads((Path(__file__).parent / "treebank.json").read_text(encoding="utf-8"))


def test_words_by_hand() -> None:
    assert tokenise("A small, upside-down dog's bowl.  (On GRASS)") == (
        "a small upside-down dog 's bowl -lrb- on grass -rrb-"
    )
    assert tokenise("It isn't 3.5 inches, it's 50%!") == "it is n't 3.5 inches it 's 50 %"
    assert tokenise("...") == tokenise("") == ""


def test_as_the_original_splits_them() -> None:
    assert len(RECORDED) > 300
    wrong = {text: (tokenise(text), words) for text, words in RECORDED.items() if tokenise(text) != words}
    assert not wrong


@needs_java
def test_the_record_is_what_java_says() -> None:
    texts = [text for text in RECORDED if text]
    assert dict(zip(texts, ptb_tokens(texts), strict=True)) == {text: RECORDED[text] for text in texts}


def test_without_java_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    with pytest.raises(MissingJavaError, match="default-jre-headless"):
        ptb_tokens(["a dog"])

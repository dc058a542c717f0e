"""The language model's tokenizer and the placeholder for the noun."""

from __future__ import annotations

import json

import pytest
from transformers import AutoTokenizer

from dynrefer.model.loading import EMBEDDED
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import NOUN_PLACEHOLDER, build_tokenizers, with_noun_placeholder

PIECE = "\u2581" + NOUN_PLACEHOLDER


@pytest.fixture(scope="module")
def language() -> object:
    return build_tokenizers(World.load())[1]


def pieces(tokenizer: object) -> list[list[object]]:
    found: list[list[object]] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]  # type: ignore[attr-defined]
    return found


def test_the_placeholder_is_one_piece_at_the_end(language) -> None:  # type: ignore[no-untyped-def]
    last = len(language) - 1
    assert language.convert_ids_to_tokens(last) == PIECE
    assert language.convert_ids_to_tokens(language("~,brown|").input_ids)[:2] == [PIECE, ","]
    for text in ("~,brown,dog|", "~.|", "~|", "~,red,grass.|"):
        ids = language(text).input_ids
        assert ids.count(last) == 1 and ids[0] == last and language.unk_token_id not in ids


@pytest.mark.parametrize("text", ["a brown ~ on grass", "a ~", "on grass an orange ~ to the left of another object"])
def test_captions_with_the_placeholder_come_back_unchanged(text: str, language) -> None:  # type: ignore[no-untyped-def]
    ids = language(text).input_ids
    assert language.decode(ids, skip_special_tokens=True) == text
    assert language.unk_token_id not in ids


def test_all_other_ids_stay(language) -> None:  # type: ignore[no-untyped-def]
    shipped = AutoTokenizer.from_pretrained(EMBEDDED / "language_tokenizer")
    without = [piece for piece in pieces(shipped) if piece[0] != PIECE]
    assert pieces(language)[:-1] == without
    extended = with_noun_placeholder(shipped)
    assert pieces(extended) == pieces(language)
    assert with_noun_placeholder(extended) is extended
    for text in ("a brown dog on grass", "dog,brown,animal|"):
        assert extended(text).input_ids == language(text).input_ids == shipped(text).input_ids


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unigram"):
        with_noun_placeholder(AutoTokenizer.from_pretrained(EMBEDDED / "text_tokenizer"))

"""The Chinese list of tags, where the user's copy of the official code has it."""

import json
from pathlib import Path

import pytest

from dynrefer.model.convert.assets import CHINESE_TAGS, read_translations
from dynrefer.model.errors import ConversionError
from dynrefer.model.translations import TRANSLATIONS_FILE, Translations
from dynrefer.model.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("dog", "orange", "street"), (), ("dog", "fox"))


def test_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / CHINESE_TAGS).write_text("狗\n橙子\n街道\n", encoding="utf-8")
    found = read_translations(tmp_path, VOCABULARY)
    assert found.of("tags", "street") == {"zh": "街道"} and found.of("categories", "dog") == {"zh": "狗"}
    assert found.of("categories", "fox") == {}
    found.save(tmp_path)
    assert Translations.load(tmp_path) == found
    assert set(json.loads((tmp_path / TRANSLATIONS_FILE).read_text(encoding="utf-8"))) == {"objects", "properties"}


def test_a_list_of_another_length(tmp_path: Path) -> None:
    (tmp_path / CHINESE_TAGS).write_text("狗\n橙子\n", encoding="utf-8")
    with pytest.raises(ConversionError, match="has 2 tags but ram_tag_list.txt has 3"):
        read_translations(tmp_path, VOCABULARY)


def test_without_the_list(tmp_path: Path) -> None:
    read_translations(tmp_path, VOCABULARY).save(tmp_path)
    assert not (tmp_path / TRANSLATIONS_FILE).exists()

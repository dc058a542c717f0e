"""Fonts: what ships covers what answers can hold; what none covers is said in words, with what to install."""

import json
import logging
from collections.abc import Iterator

import pytest

from dynrefer.model.drawing import typefaces
from dynrefer.model.drawing.typefaces import FONTS, SHIPPED, covers, face_of, legible
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.translations import TRANSLATIONS_FILE
from tests.model.drawing.make_fonts import NATIONAL_SETS, OFFICIAL_TAGS, national_set

ETHIOPIC, EMOJI = "ድመት", "\U0001f600"


@pytest.fixture
def no_system_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(typefaces, "system_faces", lambda character: iter(()))
    for cached in (face_of, typefaces._warn):
        cached.cache_clear()
    yield
    for cached in (face_of, typefaces._warn):
        cached.cache_clear()


def lacking(text: str) -> str:
    return "".join(each for each in text if not any(covers(face, each) for face in SHIPPED))


def test_the_shipped_fonts_have_every_translated_word() -> None:
    kinds = json.loads((EMBEDDED / TRANSLATIONS_FILE).read_text(encoding="utf-8")).values()
    words = [word for names in kinds for found in names.values() for word in found.values()]
    assert len(words) > 1000 and lacking("".join(set("".join(words)))) == ""


def test_the_shipped_fonts_have_the_official_chinese_tags() -> None:
    assert len(OFFICIAL_TAGS) == 128 and lacking(OFFICIAL_TAGS) == ""


@pytest.mark.parametrize("encoding", NATIONAL_SETS)
def test_the_shipped_fonts_have_the_national_sets(encoding: str) -> None:
    codes = national_set(encoding)
    assert len(codes) == {"gb2312": 3755, "euc_jp": 2965, "euc_kr": 2350}[encoding]
    assert lacking("".join(map(chr, sorted(codes)[::25]))) == ""


@pytest.mark.parametrize(
    "text",
    [
        "naïve Straße œuvre Ærø Łódź ağaç",
        "Việt Nam",
        "Ελληνικά ἀρχή",
        "Чёрная кішка Ђорђе",
        "قطة گربه پلنگ",
        "חָתוּל",
        "काली बिल्ली",
        "แมวสีดำ",
        "կատու",
        "კატა",
        "黑猫 黒猫のテーブル 고양이",
        "‘“–—…”’ €£¥ ½ × °",
    ],
)
def test_the_shipped_fonts_have_these_scripts(text: str) -> None:
    assert lacking(text.replace(" ", "")) == ""


def test_the_fonts_are_small_and_their_licence_is_beside_them() -> None:
    assert sum(path.stat().st_size for path in FONTS.glob("*.?tf")) < 2_000_000
    licence = (FONTS / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    assert all(path.name in licence for path in FONTS.glob("*.?tf"))


def test_what_no_font_has_is_said_in_words(no_system_fonts: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert legible(f"{ETHIOPIC} cat {EMOJI}") == "[Ethiopic] cat [grinning face]"
        assert legible(ETHIOPIC) == "[Ethiopic]"
        assert legible("\U00020000") == "[Chinese character]"
    (first, *_) = [record.getMessage() for record in caplog.records]
    assert "[Ethiopic]" in first and "fonts-noto" in first
    assert len(caplog.records) == 3  # each is said once


def test_a_font_of_the_system_is_taken_where_ours_have_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typefaces, "SHIPPED", SHIPPED[:1])
    monkeypatch.setattr(typefaces, "system_faces", lambda character: iter(("no-such-file.ttf", SHIPPED[1])))
    face_of.cache_clear()
    try:
        assert face_of("猫") == SHIPPED[1] and face_of("a") == SHIPPED[0]
        assert legible("a 猫") == "a 猫"
    finally:
        face_of.cache_clear()


def test_a_system_without_fontconfig_is_asked_by_well_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typefaces.shutil, "which", lambda name: None)
    assert "Arial Unicode.ttf" in list(typefaces.system_faces("猫"))


def test_text_is_one_line_without_controls() -> None:
    assert legible(" a\n\tb  c ") == "a b c"
    assert legible("a\u202eb\x00c\u2066d\ufeff") == "abcd"  # nothing turns what follows around
    assert legible("नि\u200dx") == "नि\u200dx"
    assert legible("") == ""

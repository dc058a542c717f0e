"""Make the fonts that ship from the complete ones: only the characters that labels are likely to hold.

    apt-get install fonts-noto-core fonts-noto-cjk
    python -m tests.model.drawing.make_fonts [--fonts /usr/share/fonts] [--output model/drawing/fonts]

Noto's fonts of several alphabets become one file, so that a label which mixes them ("חתול (cat)") is set by one call of
HarfBuzz, with the order of its parts as Unicode has it. Chinese, Japanese and Korean have other outlines (cubic) and
stay a file of their own, with the characters of the basic national sets alone: level 1 of GB 2312 and of JIS X 0208,
and the syllables of KS X 1001; what the embedded model's translations and the official Chinese list of tags hold comes
on top. Chinese has the forms of the mainland. Hinting is left out: labels are drawn smoothly.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from fontTools import subset
from fontTools.merge import Merger, Options
from fontTools.ttLib import TTFont

from dynrefer.model.drawing.typefaces import BOLD, CJK, FONTS, TEXT
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.translations import TRANSLATIONS_FILE

Ranges = Sequence[tuple[int, int]]

ASCII: Ranges = ((0x20, 0x7E), (0xA0, 0xA0))
# File of fonts-noto-core -> first and last of its characters that ship.
ALPHABETS: dict[str, Ranges] = {
    "NotoSans-Regular.ttf": (
        *ASCII,
        (0xA1, 0x36F),  # Latin, phonetic letters, accents
        (0x370, 0x52F),  # Greek, Cyrillic
        (0x1E00, 0x1FFF),  # Vietnamese among others, ancient Greek
        (0x2000, 0x209F),  # punctuation, superior and inferior figures
        (0x20A0, 0x20C0),  # currencies
        (0x2100, 0x214F),
        (0x2212, 0x2212),
        (0x25CC, 0x25CC),
        (0xFFFD, 0xFFFD),
    ),
    "NotoSansArabic-Regular.ttf": ((0x600, 0x6FF), (0x200C, 0x200F)),
    "NotoSansHebrew-Regular.ttf": ((0x5B0, 0x5F4),),
    "NotoSansDevanagari-Regular.ttf": ((0x900, 0x97F), (0x200C, 0x200D)),
    "NotoSansThai-Regular.ttf": ((0xE01, 0xE5B),),
    "NotoSansArmenian-Regular.ttf": ((0x531, 0x58F),),
    "NotoSansGeorgian-Regular.ttf": ((0x10D0, 0x10FF),),
}
CJK_FILE, SIMPLIFIED_CHINESE = "NotoSansCJK-Regular.ttc", 2  # the collection's font with the forms of the mainland
CJK_PUNCTUATION: Ranges = (*ASCII, (0x3000, 0x303F), (0x3041, 0x30FF), (0xFF01, 0xFF60))
# Encoding -> rows of its table of 94 columns.
NATIONAL_SETS = {"gb2312": (16, 55), "euc_jp": (16, 47), "euc_kr": (16, 40)}
# Of the 2,035 characters of the official list of Chinese tags, those in none of the sets; the list is
# ram/data/ram_tag_list_chinese.txt of https://github.com/xinyu1205/recognize-anything at 7cb804a8609e.
OFFICIAL_TAGS = (
    "匕匾啜喱堇幔彗擀晷暹柺桉桦楂楦榄榈榉榕榻槟槲橄檐浣淇渲漩漪炖煲熨牦犸狍狒猕猬獠獾珀琥瑜疣皴稣穹筝篝粽绗缰罂羁翡茉荟荼莓莳菁薰藓蚣蚱蜈蜊蜓蜢蜥蜴"
    "蜷蜻蝙蝠螂螃螳蟀蟋蟑蟒谒貂贻跆跤跷踝轭銮钹铐铙锉镖镫镯闩飓饪驿骼鬣鱿鲈鲨鲶鲷鳄鳍鳗鳟鸬鸮鹈鹉鹌鹑鹕鹚鹦鹭鹳黏鼬鼹龛"
)
NO_LAYOUT = ["GSUB", "GPOS", "BASE", "VORG", "vhea", "vmtx"]  # of Chinese, Japanese and Korean: lines are horizontal


def characters(ranges: Ranges) -> set[int]:
    """Every code point of the ranges, both ends among them."""
    return {code for first, last in ranges for code in range(first, last + 1)}


def national_set(encoding: str) -> set[int]:
    """The characters of the rows of a national standard that are in daily use."""
    first, last = NATIONAL_SETS[encoding]
    cells = (bytes((0xA0 + row, 0xA1 + column)) for row in range(first, last + 1) for column in range(94))
    return {ord(found) for cell in cells if (found := cell.decode(encoding, "ignore"))}


def translated() -> set[int]:
    """The characters of the words that the embedded model has in other languages."""
    kinds = json.loads((EMBEDDED / TRANSLATIONS_FILE).read_text(encoding="utf-8")).values()
    return {ord(each) for words in kinds for found in words.values() for word in found.values() for each in word}


def cut(path: Path, codes: Iterable[int], output: Path, *, number: int = -1, without: Sequence[str] = ()) -> None:
    """Write the part of a font that sets these characters. number: of the font in a collection."""
    options = subset.Options(hinting=False, notdef_outline=True, glyph_names=False, font_number=number)
    options.name_IDs = [0, 1, 2, 3, 4, 5, 6, 7, 13, 14]  # those about licence and copyright too
    options.drop_tables += without
    font = subset.load_font(str(path), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=codes)
    subsetter.subset(font)
    subset.save_font(font, str(output), options)


def found(folder: Path, name: str) -> Path:
    """The file of this name below the folder. Raises SystemExit where there is none."""
    path = next(iter(sorted(folder.rglob(name))), None)
    if path is None:
        raise SystemExit(f"{name} is not below {folder}: apt-get install fonts-noto-core fonts-noto-cjk")
    return path


def make(folder: Path, output: Path) -> None:
    """Write the files, and print their sizes."""
    parts = []
    for place, (name, ranges) in enumerate(ALPHABETS.items()):
        parts.append(output / f"part{place}.ttf")
        cut(found(folder, name), characters(ranges), parts[-1])
    merged: TTFont = Merger(Options(drop_tables=["vhea", "vmtx"])).merge([str(part) for part in parts])
    merged.save(output / TEXT)
    for part in parts:
        part.unlink()
    cut(found(folder, "NotoSans-Bold.ttf"), characters((*ASCII, (0x2026, 0x2026))), output / BOLD)
    codes = characters(CJK_PUNCTUATION).union(map(ord, OFFICIAL_TAGS), translated())
    codes = codes.union(*(national_set(each) for each in NATIONAL_SETS))
    cut(found(folder, CJK_FILE), codes, output / CJK, number=SIMPLIFIED_CHINESE, without=NO_LAYOUT)
    for name in (TEXT, BOLD, CJK):
        print(f"{(output / name).stat().st_size:>9,}  {name}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"), help="folder with the complete fonts")
    parser.add_argument("--output", type=Path, default=FONTS)
    asked = parser.parse_args()
    make(asked.fonts, asked.output)


if __name__ == "__main__":
    main()

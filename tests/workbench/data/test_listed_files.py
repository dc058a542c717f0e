"""Names of files as tools of other systems write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from dynrefer.workbench.data.listed_files import listed_path, missing_hint


@pytest.mark.parametrize(
    ("there", "listed"),
    [
        ("images/1.png", "images/1.png"),
        ("images/1.png", "images\\1.png"),
        ("images/a/1.png", ".\\images\\a\\1.png"),
        ("a\\b.png", "a\\b.png"),  # here a backslash may be part of a name
        ("my photo.png", "my%20photo.png"),
        ("images/my photo.png", "images%5Cmy%20photo.png"),
        ("images/my photo.png", "images\\my%20photo.png"),
        ("50%25.png", "50%25.png"),
        ("50%.png", "50%.png"),
        ("50%ff.png", "50%ff.png"),
        (unicodedata.normalize("NFC", "caf\u00e9.png"), unicodedata.normalize("NFD", "caf\u00e9.png")),
        (unicodedata.normalize("NFD", "caf\u00e9.png"), unicodedata.normalize("NFC", "caf\u00e9.png")),
    ],
)
def test_the_file_is_found(there: str, listed: str, tmp_path: Path) -> None:
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    assert listed_path(tmp_path, listed).samefile(file)


def test_as_it_is_written_wins(tmp_path: Path) -> None:
    for name in ("a%20b.png", "a b.png"):
        (tmp_path / name).write_text("")
    assert listed_path(tmp_path, "a%20b.png") == tmp_path / "a%20b.png"
    assert listed_path(tmp_path, "gone\\b.png") == tmp_path / "gone\\b.png"


@pytest.mark.parametrize("listed", ["x" * 300 + "%41.png", "a%00b.png", "%ff%fe.png", "\\\\host\\share\\1.png"])
def test_names_that_no_file_can_have(listed: str, tmp_path: Path) -> None:
    assert listed_path(tmp_path, listed) == tmp_path / listed


@pytest.mark.parametrize(
    ("listed", "hint"),
    [
        ("images\\1.png", "holds a backslash"),
        ("my%20photo.png", "holds a percent sign"),
        ("C:\\photos\\1.png", "path of Windows"),
        ("d:/photos/1.png", "path of Windows"),
        ("\\\\host\\1.png", "path of Windows"),
        ("http://host/1.png", "address"),
        ("s3://bucket/1.png", "address"),
        ("images/1.png", ""),
        ("10:30.png", ""),
    ],
)
def test_a_hint_at_what_may_be_wrong(listed: str, hint: str, tmp_path: Path) -> None:
    found = missing_hint(str(listed_path(tmp_path, listed)))
    assert hint in found and bool(found) == bool(hint)

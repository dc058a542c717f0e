import json
import os
from pathlib import Path
from typing import Any

import pytest

from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.journal import Journal

ASKED = {"model": "fake", "task": ["caption"], "find": False}


def digest(number: int) -> bytes:
    return bytes([number]) * 16


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"file": f"{number}.png", "regions": [{"id": "0"}, {"id": "1"}], **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with three lines."""
    path = tmp_path / "out.jsonl.journal.jsonl"
    with Journal(path) as journal:
        journal.begin(ASKED)
        for number in range(3):
            journal.append(digest(number), line(number))
    return path


def test_lines_come_back_in_the_order_that_is_asked_for(path: Path) -> None:
    with Journal(path) as journal:
        assert [each["file"] for each in journal.lines([digest(2), digest(9), digest(0)])] == ["2.png", "0.png"]
        assert len(journal) == 3 and journal.cut == 0
        assert journal.get(digest(9)) is None


def test_an_appended_line_is_read_while_the_journal_is_open(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(digest(7), line(7, text="ünicode\n"))
        (found,) = journal.lines([digest(7)])
    assert found == line(7, text="ünicode\n")


def test_entries_count_regions_and_failures(path: Path) -> None:
    with Journal(path) as journal:
        entry = journal.append(digest(4), {"file": "4.png", "regions": [{"id": "0", "error": {}}, {"id": "1"}]})
        assert (entry.regions, entry.failed) == (2, 1)
        entry = journal.append(digest(5), {"file": "5.png", "error": {"type": "unreadable", "detail": "It is gone."}})
        assert (entry.regions, entry.failed) == (0, 1)


def test_of_two_lines_about_one_item_the_later_one_holds(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(digest(1), line(1, again=True))
    with Journal(path) as journal:
        assert [each.get("again") for each in journal.lines([digest(1)])] == [True]
        assert len(journal) == 3


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_a_torn_last_line_is_cut_off(path: Path, keep: int) -> None:
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: len(whole) - len(last) + keep])
    with Journal(path) as journal:
        assert journal.cut == keep and len(journal) == 2
        journal.append(digest(8), line(8))
    with Journal(path) as journal:
        assert journal.cut == 0 and len(journal) == 3
        assert [each["file"] for each in journal.lines([digest(8)])] == ["8.png"]


def test_a_line_that_is_not_ours_ends_what_is_trusted(path: Path) -> None:
    """After a crash of the machine a block of the file may be zero."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + bytes(64) + b"\n" + lines[3])
    with Journal(path) as journal:
        assert len(journal) == 1 and journal.cut == 65 + len(lines[3])


@pytest.mark.parametrize("torn", [b"", b'{"dynr', b'{"dynrefer_batch":1,"settings":{"model'])
def test_a_torn_first_line_is_no_journal_yet(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(torn)
    with Journal(path) as journal:
        assert not journal.begun
        journal.begin(ASKED)
        journal.append(digest(1), line(1))
    with Journal(path) as journal:
        journal.check(ASKED)
        assert len(journal) == 1


@pytest.mark.parametrize("content", [b"some text\n", b'{"a": 1}\n', b"[]\n", b"precious"])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(BatchError, match="no journal of `dynrefer batch`; remove it or choose another --out"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_journal_of_another_version_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"dynrefer_batch":1', b'"dynrefer_batch":2'))
    with pytest.raises(BatchError, match="of another version"):
        Journal(path)


def test_other_settings_are_refused_by_name(path: Path) -> None:
    with Journal(path) as journal:
        journal.check(ASKED)
        with pytest.raises(BatchError, match=r'was begun with task \["caption"\], and this run has \["tags"\]'):
            journal.check({**ASKED, "task": ["tags"]})
        with pytest.raises(BatchError, match="was begun with top_k none, and this run has 3"):
            journal.begin({**ASKED, "top_k": 3})


def test_a_journal_is_locked_while_it_is_open(path: Path) -> None:
    with Journal(path), pytest.raises(BatchError, match="another process is writing"):
        Journal(path)
    with Journal(path):
        pass


def test_one_that_was_not_begun_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path):
        assert path.exists()
    assert not path.exists()


def test_it_knows_what_was_written_from_it(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.coco.json"
    with Journal(path) as journal:
        assert not journal.wrote(out)
        journal.note(out)
        journal.note(out)
    with Journal(path) as journal:
        assert journal.wrote(out) and not journal.wrote(tmp_path / "other.json")
        assert len(journal) == 3
    assert path.read_bytes().count(b'"wrote"') == 1


def test_a_file_name_that_is_not_utf_8_comes_back(path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    with Journal(path) as journal:
        journal.append(digest(6), line(6, name=name))
    with Journal(path) as journal:
        assert [each["name"] for each in journal.lines([digest(6)])] == [name]
    assert all(json.loads(each) for each in path.read_bytes().splitlines())


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="cannot write .*: no such file or directory"):
        Journal(tmp_path / "nowhere" / "journal.jsonl")


def test_what_is_known_late_is_compared_late(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.begin({**ASKED, "revision": "abc"})
    with Journal(path) as journal:
        journal.check(ASKED)
        with pytest.raises(BatchError, match='was begun with revision "abc", and this run has "def"'):
            journal.begin({**ASKED, "revision": "def"})

"""Files that a command must not write: what it reads, in every spelling, and what exists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynrefer.model.errors import OutputFileError
from dynrefer.model.outputs import check_outputs, refuse_inputs


@pytest.fixture
def given(tmp_path: Path) -> Path:
    file = tmp_path / "data.json"
    file.write_text("{}")
    return file


def link(given: Path) -> Path:
    (given.parent / "link.json").symlink_to("data.json")
    return given.parent / "link.json"


def hard_link(given: Path) -> Path:
    (given.parent / "hard.json").hardlink_to(given)
    return given.parent / "hard.json"


def through_a_linked_folder(given: Path) -> Path:
    (given.parent / "folder").symlink_to(".")
    return given.parent / "folder" / "data.json"


SPELLINGS: dict[str, Callable[[Path], Path]] = {
    "the same": lambda given: given,
    "with dots": lambda given: given.parent / ".." / given.parent.name / "data.json",
    "relative": lambda given: Path("data.json"),
    "a link": link,
    "a hard link": hard_link,
    "through a linked folder": through_a_linked_folder,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_input_is_never_written(name: str, given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(given.parent)
    output = SPELLINGS[name](given)
    with pytest.raises(OutputFileError, match=r"--draw .* is .*data.json, which this command reads; choose another"):
        check_outputs([("--draw", output)], [None, given], overwrite=True)
    with pytest.raises(OutputFileError, match="which this command reads"):  # the input may be the link
        check_outputs([("--draw", given)], [output], overwrite=True)


def test_a_file_of_a_folder_that_is_read(given: Path) -> None:
    for output in (given, link(given)):
        with pytest.raises(OutputFileError, match="which this command reads"):
            refuse_inputs([("--out", output)], [given.parent])
    refuse_inputs([("--out", given.parent / "new.json")], [given.parent, given.parent / "nowhere"])


def test_an_existing_file_needs_overwrite(given: Path) -> None:
    with pytest.raises(OutputFileError, match="--out: .*data.json exists; pass --overwrite to replace it"):
        check_outputs([("--out", given)], [])
    check_outputs([("--out", given)], [], overwrite=True)
    (given.parent / "dangling").symlink_to("nowhere")
    with pytest.raises(OutputFileError, match="exists"):
        check_outputs([("--out", given.parent / "dangling")], [])
    check_outputs([("--out", given.parent / "new")], [given])


def test_what_is_no_file(given: Path) -> None:
    for path in (given.parent, Path("/dev/null")):
        with pytest.raises(OutputFileError, match="is not a regular file"):
            check_outputs([("--out", path)], [], overwrite=True)


def test_two_outputs_of_one_name(given: Path) -> None:
    named = [("--out", given.parent / "x.json"), ("--save-predictions", given.parent / "." / "x.json")]
    with pytest.raises(OutputFileError, match="--save-predictions and --out would both write"):
        check_outputs(named, [])

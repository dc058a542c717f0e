import os
import tempfile
from pathlib import Path

import pytest

from dynrefer.service.scale.ray.scratch import YOUNG_S, remove_left_behind, scratch_folder
from dynrefer.service.settings import SettingsError


def test_a_folder_of_our_own_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path)[:40])
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/tmp")
    with scratch_folder() as folder:
        assert folder.parent == Path("/tmp") and folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep" / "er").mkdir(parents=True)
    assert not folder.exists()


def test_what_is_not_ours_or_still_in_use_stays(tmp_path: Path) -> None:
    other, elsewhere = tmp_path / "other", tmp_path / "elsewhere"
    other.mkdir()
    elsewhere.mkdir()
    (tmp_path / "dynrefer-ray-link").symlink_to(elsewhere)
    young, old, dead = (tmp_path / f"dynrefer-ray-{name}" for name in ("young", "old", "dead"))
    for folder in (young, old, dead):
        folder.mkdir()
    (dead / "lock").touch()
    os.utime(old, (0, 0))
    assert YOUNG_S > 1
    remove_left_behind(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dynrefer-ray-link",
        "dynrefer-ray-young",
        "elsewhere",
        "other",
    ]


def test_a_long_path_gives_way_to_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/" + "long" * 20)
    with scratch_folder() as folder:
        assert folder.parent == Path("/tmp")


def test_no_temporary_folder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(SettingsError, match="--tmpfs /tmp"), scratch_folder():
        raise AssertionError


def test_a_long_path_without_a_short_one_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/" + "long" * 20)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingsError, match="too long for the sockets in it; set TMPDIR to one of at most"):
        scratch_folder().__enter__()

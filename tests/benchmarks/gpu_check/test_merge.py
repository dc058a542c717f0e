"""Several runs in one file: whose figures stand there, and where each part comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_check.merge import main, merged


def report(commit: str, *parts: str, cut: dict[str, str] | None = None, device: str = "H200") -> dict[str, Any]:
    figures = [{"part": part, "name": "x", "value": commit} for part in parts]
    machine = {"command": "c", "date": "d", "commit": commit, "device": device, "preset": "p"}
    return {**machine, "complete": True, "not_finished": cut or {}, "figures": figures}


def test_later_parts_replace_earlier_ones_and_say_where_they_come_from(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("out.json", "a.json", "b.json")]
    first = report("old", "speed", "service", cut={"service": "cut after 1 s"})
    for path, each in zip(paths, (first, report("new", "service"), report("newer", "curve")), strict=True):
        path.write_text(json.dumps(each), encoding="utf-8")
    main([str(path) for path in paths])
    found = json.loads(paths[0].read_text(encoding="utf-8"))
    assert {each["part"]: each["value"] for each in found["figures"]} == {
        "speed": "old",
        "service": "new",
        "curve": "newer",
    }
    assert found["runs"]["speed"]["commit"] == "old" and found["runs"]["curve"]["commit"] == "newer"
    assert found["not_finished"] == {} and found["commit"] == "newer"
    assert merged([found, report("last", "curve")])["runs"]["speed"]["commit"] == "old"


def test_cards_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="several cards"):
        merged([report("a", "speed"), report("a", "speed", device="H100")])

"""Reports of bad samples: written whole, restored for the same file only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynrefer.workbench.data.bad_samples import BadSampleReport, save_reports, saving_reports
from dynrefer.workbench.errors import TooManyBadSamplesError


def test_an_empty_report() -> None:
    BadSampleReport("train.json", 0).check()


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    reports = [BadSampleReport("/train.json", 100, {"annotation 1": "no caption"}), BadSampleReport("/val.json", 3)]
    reports[1].stored |= {"/b.jpg", "/a.jpg"}
    save_reports(reports, tmp_path / "run" / "bad.json")
    assert json.loads((tmp_path / "run" / "bad.json").read_text()) == [
        {"source": "/train.json", "samples": 100, "bad": {"annotation 1": "no caption"}, "read_as_stored": []},
        {"source": "/val.json", "samples": 3, "bad": {}, "read_as_stored": ["/a.jpg", "/b.jpg"]},
    ]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["bad.json"]


def test_a_report_that_cannot_be_written_is_mentioned_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TooManyBadSamplesError) as caught, saving_reports(tmp_path / "file" / "bad.json") as reports:
        reports.append(BadSampleReport("train.json", 1, {"annotation 1": "no caption"}))
        reports[0].check()
    assert str(caught.value).endswith(f"no caption; {tmp_path / 'file' / 'bad.json'} cannot be written: File exists.")


@pytest.mark.parametrize(
    ("kept", "restored"),
    [
        (BadSampleReport("val.json", 100), True),
        (BadSampleReport("other.json", 100), False),
        (BadSampleReport("val.json", 101), False),
    ],
    ids=["the same", "another file", "a changed file"],
)
def test_a_report_is_restored_for_the_same_file(kept: BadSampleReport, restored: bool) -> None:
    kept.found["annotation 1"] = "no caption"
    report = BadSampleReport(str(Path("val.json").absolute()), 100, {"annotation 2": "no box"})
    report.restore(json.loads(json.dumps(kept.as_json())))
    assert list(report.found) == ["annotation 2", *(["annotation 1"] if restored else [])]

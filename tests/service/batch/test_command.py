"""The command line of `dynrefer batch`: what it refuses, in one sentence, and one run with the embedded model."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from dynrefer.service.batch_command import batch_command
from tests.repository import ROOT
from tests.service.batch.inputs import lines_of, make_images, write_requests

PHOTOGRAPHS = ROOT / "benchmarks" / "photographs"


def dynrefer(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dynrefer.service.cli", *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence with which the command ends at once."""
    app = typer.Typer()
    app.command()(batch_command)
    with pytest.raises(SystemExit) as ended:
        app(args=list(map(str, arguments)), standalone_mode=False)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith("dynrefer: ") and said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "name a file or folder with boxes by --boxes"),
        (("--name", "dog"), "--name, --phrase, --threshold and --masks belong to --find; add it."),
        (("--find", "--name", "dog", "--phrase", "a dog"), "not both"),
        (("--find", "--phrase", " "), "--phrase is empty"),
        (("--find", "--name", "dog", "--name", "dog"), "dog"),
        (("--no-describe",), "--no-describe belongs to --find"),
        (("--task", "tag"), "--task tag is unknown"),
        (("--vocabulary", "coca"), "--vocabulary coca is neither one of"),
        (("--find", "--language", "klingon!"), "language"),
        (("--find", "--top-k", "100000"), "top_k is at most"),
        (("--find", "--also", "x.doc"), "the ending says what is written"),
        (("--format", "voc", "--boxes", "nowhere"), "there is no nowhere"),
        (("--find", "--engine", "rays"), "--engine 'rays' is invalid"),
        (("--find", "--replicas", "2"), "replicas is for replicas, which only engine ray has"),
        (("--find", "--engine", "ray", "--replicas", "0"), "--replicas '0' is invalid"),
        (("--find", "--engine", "ray", "--replica-gpus", "-1"), "--replica-gpus '-1.0' is invalid"),
        (("--find", "--engine", "ray", "--replica-cpus", "0"), "--replica-cpus '0.0' is invalid"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    make_images(tmp_path / "in", 1)
    assert said in refused(capsys, tmp_path / "in", "--out", tmp_path / "out.jsonl", *options)
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_ray_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    make_images(tmp_path / "in", 1)
    said = refused(capsys, tmp_path / "in", "--find", "--out", tmp_path / "o.jsonl", "--engine", "ray")
    assert "--engine ray needs the package ray: pip install 'dynrefer[ray]' adds it." in said


def test_a_wrong_setting_of_the_environment_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "in", 1)
    monkeypatch.setenv("DYNREFER_IMAGE_CPU_S", "soon")
    said = refused(capsys, tmp_path / "in", "--find", "--out", tmp_path / "o.jsonl")
    assert "DYNREFER_IMAGE_CPU_S 'soon' is invalid" in said


@pytest.mark.server
def test_the_embedded_model_answers_as_it_does_alone_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """In worker processes, in batches with other regions, and cut in two runs."""
    boxes = {"two-dogs.jpg": [[128, 149, 222, 270], [199, 284, 286, 421]], "tourist.jpg": [[308, 190, 401, 258]]}
    asked = [{"image": name, "regions": [{"box": box} for box in each]} for name, each in boxes.items()]
    file = write_requests(tmp_path / "requests.jsonl", asked)
    whole = ("batch", file, "--images", PHOTOGRAPHS, "--device", "cpu", "--task", "caption", "--task", "tags")
    assert dynrefer(*whole, "--out", tmp_path / "whole.jsonl").returncode == 0

    half = write_requests(tmp_path / "half.jsonl", asked[1:])
    cut = tmp_path / "cut.jsonl"
    assert dynrefer(*whole[:1], half, *whole[2:], "--out", cut).returncode == 0
    done = dynrefer(*whole, "--out", cut)
    assert done.returncode == 0 and "1 image, 2 regions" in done.stderr
    assert cut.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    alone = dynrefer(
        "describe",
        PHOTOGRAPHS / "tourist.jpg",
        "--box",
        "308,190,401,258",
        "--task",
        "caption",
        "--task",
        "tags",
        "--json",
    )
    (expected,) = json.loads(alone.stdout)
    (found,) = lines_of(cut)[1]["regions"]
    assert {**expected, "timings_ms": None} == {**found, "timings_ms": None}

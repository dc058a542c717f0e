"""`dynrefer train --from-corrections` on the command line: what it refuses, says and ends with."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from dynrefer.model.errors import ModelError
from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.training import command as training
from dynrefer.workbench.training.corrections import run as running
from dynrefer.workbench.training.corrections.command import NOT_OFFERED, served_revisions
from dynrefer.workbench.training.corrections.offer import Verdict
from dynrefer.workbench.training.corrections.run import Outcome
from dynrefer.workbench.training.corrections.settings import CorrectionSettings, from_flags, resumed
from tests.workbench.training.corrections.test_offer import GAIN

pytestmark = pytest.mark.training

app = typer.Typer()
app.command()(training.train_command)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"DYNREFER_KEY": ""})


def refused(*arguments: object) -> str:
    result = invoke(*arguments)
    assert isinstance(result.exception, ModelError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


class FakeRun:
    """In the place of a run; `verdict` is what its comparison says."""

    verdict: Verdict | None = Verdict(True, ("accuracy of categories is better by 0.100.",))
    asked: CorrectionSettings

    def __init__(self, settings: CorrectionSettings, out: Path) -> None:
        FakeRun.asked, self.out, self.told = settings, out, ["1 captions are not learned."]
        self.split, self.base_revision = self, "abc"

    def sentence(self) -> str:
        return "training: 60 regions of 12 images"

    def train(self) -> Outcome:
        return Outcome(self.out / "model", self.verdict, () if self.verdict is None else (GAIN,))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeRun]:
    monkeypatch.setattr(running, "CorrectionRun", FakeRun)
    return FakeRun


def test_a_better_model_is_offered_and_nothing_is_switched(tmp_path: Path, fake: type[FakeRun]) -> None:
    out = tmp_path / "out"
    result = invoke("--from-corrections", tmp_path, "--out", out, "--what", "lora", "--what", "heads", "--steps", 7)
    assert result.exit_code == 0
    assert f"dynrefer reload {out / 'model'} --server URL" in result.output
    assert "dynrefer reload --previous --server URL" in result.output
    assert "held-out corrections  categories  accuracy" in result.output and "+0.100" in result.output
    assert fake.asked.what == ("lora", "heads") and fake.asked.steps == 7 and fake.asked.folder == tmp_path


def test_a_model_that_is_not_better_ends_with_a_code_of_its_own(
    tmp_path: Path, fake: type[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "verdict", Verdict(False, ("f1 of tags is worse by 0.030, more than 0.02.",)))
    result = invoke("--from-corrections", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == NOT_OFFERED == 3
    assert "worse by 0.030" in result.output and "the running model stays" in result.output
    assert "dynrefer reload" not in result.output


def test_nothing_compared_is_nothing_offered(
    tmp_path: Path, fake: type[FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "verdict", None)
    result = invoke("--from-corrections", tmp_path, "--out", tmp_path / "out", "--without-comparison")
    assert result.exit_code == 0 and "no switch is offered" in result.output and "reload" not in result.output


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--epochs", 2), "--epochs does not apply to --from-corrections."),
        (("--from", "embedded"), "--from does not apply to --from-corrections."),
        (("--preset", "embedded"), "--preset does not apply to --from-corrections."),
        (("--what", "everything"), "--what everything is not one of heads, lora."),
        (
            ("--expect-change", "captions"),
            "--expect-change captions is not one of caption, tags, attributes, categories.",
        ),
        (("--steps", 0), "--steps must be at least 1."),
        (("--rehearsal", 1), "--rehearsal 1 must be 0 or more and below 1."),
        (("--held-out", 0), "--held-out 0 must be above 0 and below 1."),
        (("--learning-rate", "nan"), "--learning-rate nan must be a finite number above 0."),
    ],
)
def test_flags_that_cannot_be_honoured_are_refused(
    tmp_path: Path, fake: type[FakeRun], flags: tuple[object, ...], sentence: str
) -> None:
    assert refused("--from-corrections", tmp_path, "--out", tmp_path / "out", *flags) == sentence
    assert not (tmp_path / "out").exists()


def test_its_flags_mean_nothing_without_it(tmp_path: Path) -> None:
    assert "--what is for --from-corrections" in refused("--out", tmp_path / "out", "--what", "heads")
    assert "--model is for --from-corrections" in refused("--out", tmp_path, "--train", "a.json", "--model", "x")


def test_a_folder_with_something_else_is_no_run(tmp_path: Path, fake: type[FakeRun]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds something else than a run of this kind" in refused("--from-corrections", tmp_path, "--out", tmp_path)


def test_a_run_is_resumed_with_its_own_settings_alone(tmp_path: Path) -> None:
    stored = from_flags({"folder": tmp_path, "steps": 7, "what": ["lora"]}).as_json()
    found = resumed({"threads": 1}, stored)
    assert (found.steps, found.what, found.threads, found.folder) == (7, ("lora",), 1, tmp_path)
    with pytest.raises(SettingError, match="--steps is 8 but the run began with 7"):
        resumed({"steps": 8}, stored)
    assert "key" not in stored and resumed({"steps": 7}, stored).steps == 7


def test_a_second_run_in_the_same_folder_needs_resume(tmp_path: Path, fake: type[FakeRun]) -> None:
    stored = from_flags({"folder": tmp_path, "steps": 7}).as_json()
    (tmp_path / running.SETTINGS).write_text(json.dumps(stored))
    assert "pass --resume to continue it" in refused("--from-corrections", tmp_path, "--out", tmp_path)
    assert invoke("--out", tmp_path, "--resume").exit_code == 0 and fake.asked.steps == 7


@pytest.fixture
def server() -> Iterator[str]:
    """A service whose model is revision "abc", for who has the key "secret"."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/v1/models" and self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"object": "list", "models": [{"name": "x", "revision": "abc"}]}).encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{service.server_address[1]}"
    service.shutdown()
    service.server_close()


def test_the_revision_of_the_running_service_is_checked_and_said(
    tmp_path: Path, fake: type[FakeRun], server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--from-corrections", tmp_path, "--out", tmp_path / "out", "--server", server, "--key", "secret")
    result = invoke(*given)
    assert f"The service at {server} runs revision abc" in result.output and f"--server {server}" in result.output
    monkeypatch.setattr(fake, "__init__", _of_another_revision(fake))
    assert "runs revision abc, and --model embedded is revision xyz" in refused(*given)


def _of_another_revision(fake: type[FakeRun]) -> Any:
    begin = fake.__init__

    def other(self: FakeRun, settings: CorrectionSettings, out: Path) -> None:
        begin(self, settings, out)
        self.base_revision = "xyz"

    return other


def test_a_service_that_cannot_be_asked_is_one_sentence(server: str) -> None:
    assert served_revisions(server + "/", "secret") == ["abc"]
    with pytest.raises(TrainingError, match="cannot be asked for its model: HTTP 401"):
        served_revisions(server, None)
    with pytest.raises(TrainingError, match="cannot be asked for its model: .*refused"):
        served_revisions("http://127.0.0.1:9", None)
    with pytest.raises(SettingError, match="is not an address"):
        served_revisions("127.0.0.1:8000", None)

"""Batch runs whose items workers of a Ray cluster answer: the same files as without Ray, whatever dies meanwhile.

One cluster serves the tests in this process; those that kill the command start their own.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model import FindQuery
from dynrefer.model.errors import ModelNotFoundError
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.job import run_job
from dynrefer.service.batch.planning import Job
from dynrefer.service.scale.ray import batch
from dynrefer.service.scale.ray.cluster import ClusterSettings, cluster
from dynrefer.service.settings import Settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor
from tests.repository import ROOT
from tests.service.batch.inputs import lines_of, make_images, many_requests, write_requests

SETTINGS = Settings(worker_processes=0, max_queue_regions=1_000_000)
ITEMS = 300
MOST_S = 240  # of a run; a machine that does much else at a time takes longest to start processes

pytestmark = [pytest.mark.server, pytest.mark.slow]
Hook = Callable[[Any], None]


@pytest.fixture(scope="module")
def one_cluster() -> Iterator[None]:
    with cluster(ClusterSettings(cpus=4, object_store_bytes=100_000_000)):
        yield


@pytest.fixture
def on_ray(one_cluster: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Two workers in the cluster that is there."""
    monkeypatch.setattr(batch, "cluster", lambda _: nullcontext())
    return SETTINGS.model_copy(update={"engine": "ray", "replicas": 2, "replica_gpus": 0})


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_requests(tmp_path_factory.mktemp("given"), ITEMS)


def job(given: Path, out: Path, settings: Settings = SETTINGS, **options: Any) -> Job:
    options = {"question": Question({"task": ["caption"]}), "quiet": True, **options}
    return Job(given, out, settings=settings, **options)


def fake(hook: Hook = lambda boxes: None) -> FakePredictor:
    return FakePredictor(run_hook=hook, finding=FakeFinderSpec())


@pytest.fixture(scope="module")
def expected(given: Path) -> bytes:
    """The output of the engine in this process."""
    out = given.parent / "local.jsonl"
    assert run_job(job(given, out), fake()) == 0
    return out.read_bytes()


def records(out: Path) -> list[str]:
    """The items of a journal's lines."""
    return [line["item"] for line in lines_of(out.with_name(f"{out.name}.journal.jsonl"))[1:] if "item" in line]


def test_requests_give_the_files_of_the_local_engine_and_each_engine_goes_on_with_the_others_run(
    given: Path, expected: bytes, on_ray: Settings, tmp_path: Path
) -> None:
    half = write_requests(given.parent / "half.jsonl", [{**each} for each in lines_of(given)[: ITEMS // 2]])
    out, local = tmp_path / "out.jsonl", tmp_path / "local.jsonl"
    assert run_job(job(half, out), fake()) == 0
    assert run_job(job(given, out, on_ray, also=(tmp_path / "out.parquet",)), fake()) == 0
    assert run_job(job(given, local, also=(tmp_path / "local.parquet",)), fake()) == 0
    assert out.read_bytes() == expected
    assert (tmp_path / "out.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()
    assert len(records(out)) == len(set(records(out))) == ITEMS


def test_it_quiets_rays_log_and_no_other(
    given: Path, on_ray: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_job(job(given, tmp_path / "out.jsonl", on_ray), fake()) == 0
    logging.getLogger("ray.data").error("of Ray")
    logging.getLogger("dynrefer").warning("of ours")
    assert [record.message for record in caplog.records if record.name in ("ray.data", "dynrefer")] == ["of ours"]


def test_a_folder_gives_the_files_of_the_local_engine(on_ray: Settings, tmp_path: Path) -> None:
    make_images(tmp_path / "images", 40)
    asked = Question({"task": ["caption"]}, FindQuery())
    for name, workers in (("local", SETTINGS), ("ray", on_ray)):
        out = tmp_path / f"{name}.jsonl"
        assert run_job(job(tmp_path / "images", out, workers, question=asked), fake()) == 0
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()


def test_a_worker_that_is_killed_costs_no_answer(
    given: Path, expected: bytes, on_ray: Settings, tmp_path: Path
) -> None:
    marker = tmp_path / "killed"

    def die_once(boxes: Any) -> None:
        if any(box[0] == 17 for box in boxes) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    out = tmp_path / "out.jsonl"
    assert run_job(job(given, out, on_ray), fake(die_once)) == 0
    assert marker.exists() and out.read_bytes() == expected
    assert len(records(out)) == len(set(records(out))) == ITEMS


def test_an_item_that_kills_its_worker_and_a_file_that_is_missing_fail_alone(
    on_ray: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(boxes: Any) -> None:
        if any(box[0] == 29 for box in boxes):
            os.kill(os.getpid(), signal.SIGKILL)

    make_images(tmp_path, 1)
    asked: list[dict[str, Any]] = [
        {"image": "0000.png", "id": place, "regions": [{"box": [place, 3, 60, 40]}]} for place in range(30)
    ]
    asked.append({"image": "missing.png", "id": "m", "regions": [{"box": [1, 2, 3, 4]}]})
    file, out = write_requests(tmp_path / "asked.jsonl", asked), tmp_path / "out.jsonl"
    assert run_job(job(file, out, on_ray), fake(die)) == 4
    assert [line["id"] for line in lines_of(out)] == list(range(29))
    dead, missing = lines_of(tmp_path / "out.jsonl.failed.jsonl")
    assert (dead["id"], dead["type"]) == (29, "worker-died") and "died of it" in dead["reason"]
    assert missing["reason"] == "The file cannot be read: no such file or directory."
    assert "left by workers that died 3 times; each is now asked alone." in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_is_an_error_of_its_own(given: Path, on_ray: Settings, tmp_path: Path) -> None:
    class Unloadable(FakePredictor):
        @property
        def preparation(self) -> Any:
            raise ModelNotFoundError("the model directory 'nowhere' does not exist")

    with pytest.raises(Exception, match="the model directory 'nowhere' does not exist"):
        run_job(job(given, tmp_path / "out.jsonl", on_ray), Unloadable())
    assert not (tmp_path / "out.jsonl.journal.jsonl").exists()


def start(given: Path, out: Path, run_s: float) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.service.batch.fake_run", str(given), str(out)]
    environment = {**os.environ, "FAKE_RUN_SECONDS": str(run_s), "FAKE_RAY": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def wait_for_answers(out: Path, count: int) -> None:
    """Until the journal has so many."""
    journal, until = out.with_name(f"{out.name}.journal.jsonl"), time.monotonic() + MOST_S
    while time.monotonic() < until:
        if journal.exists() and journal.read_bytes().count(b"\n") > count:
            return
        time.sleep(0.02)
    raise AssertionError("no answers")


def test_a_command_that_is_killed_and_one_that_is_interrupted_go_on(
    given: Path, expected: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    killed = start(given, out, run_s=0.3)
    wait_for_answers(out, 1)
    killed.kill()
    killed.communicate()
    done = len(records(out))
    assert 0 < done < ITEMS and not out.exists()

    interrupted = start(given, out, run_s=0.3)
    wait_for_answers(out, done + 1)
    interrupted.send_signal(signal.SIGINT)
    said = interrupted.communicate(timeout=MOST_S)[1].decode()
    assert interrupted.returncode == 130 and "The same command goes on." in said, said
    assert done < len(records(out)) < ITEMS and not out.exists()

    assert run_job(job(given, out), fake()) == 0
    assert out.read_bytes() == expected
    assert len(records(out)) == len(set(records(out))) == ITEMS

"""`dynrefer serve --engine ray` as it is started: two replicas of the embedded model behind one server process.

Its answers are those of the plain service with the same number of threads, whatever happens to a replica.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.conftest import in_base64
from tests.service.server.test_process import PATIENCE_S, Server, running

pytestmark = pytest.mark.server

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
REPLICA = "ray::ServeReplica"
SCENE = Path(__file__).parents[4] / "docs" / "images" / "scene.png"
BOXES = [(40.0 * i, 30.0 * i, 40.0 * i + 120, 30.0 * i + 90) for i in range(6)]
DESCRIBE = {"image": {"base64": in_base64(SCENE.read_bytes())}, "regions": [{"box": list(box)} for box in BOXES]}
ADMIN = "administrator"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the embedded model, by links."""
    import dynrefer.model

    folder = tmp_path_factory.mktemp("models")
    copy = folder / "copy"
    copy.mkdir()
    for file in (Path(dynrefer.model.__file__).parent / "embedded").iterdir():
        (copy / file.name).symlink_to(file)
    return folder


@pytest.fixture(scope="module")
def replicated(models: Path) -> Iterator[Server]:
    options = ("--engine", "ray", "--replicas", "2", "--models-dir", str(models), "--max-queue-regions", "512")
    environment = {**ONE_THREAD, "DYNREFER_ADMIN_KEYS": ADMIN}
    with running("dynrefer.service.cli", "serve", *options, **environment) as server:
        server.await_ready()
        yield server
        assert server.end(signal.SIGTERM) == 0
        assert "Traceback" not in "".join(server.lines)


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    with running("dynrefer.service.cli", "serve", "--device", "cpu", **ONE_THREAD) as server:
        server.await_ready()
        yield server


def replicas_of(server: Server) -> list[psutil.Process]:
    """Its replicas, oldest first."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    found = [each for each in children if each.is_running() and REPLICA in " ".join(each.cmdline())]
    return sorted(found, key=lambda each: each.create_time())


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


class Load:
    """Clients that describe the same regions over and over, from the block's beginning to its end."""

    def __init__(self, server: Server, clients: int = 4) -> None:
        self._server = server
        self.statuses: list[int] = []
        self.answers: list[Any] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._over.is_set():
            status, answer = self._server.describe(DESCRIBE)
            self.statuses.append(status)
            self.answers.append(answer)

    def await_answers(self, count: int) -> None:
        """Until so many more have come."""
        until, wanted = time.monotonic() + PATIENCE_S, len(self.statuses) + count
        while len(self.statuses) < wanted:
            assert time.monotonic() < until, f"{len(self.statuses)} of {wanted} answers"
            time.sleep(0.05)

    def __enter__(self) -> "Load":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(PATIENCE_S)


def regions_of(answer: dict[str, Any]) -> Any:
    return [{name: value for name, value in region.items() if name != "timings_ms"} for region in answer["regions"]]


def test_answers_are_those_of_the_plain_service_bit_for_bit(replicated: Server, plain: Server) -> None:
    for path, fields in {
        "/v1/describe": DESCRIBE,
        "/v1/detect": {"image": DESCRIBE["image"], "names": ["cat", "dog"], "describe": {}},
    }.items():
        by_replicas, by_one = (server.post(path, fields) for server in (replicated, plain))
        assert by_replicas[0] == by_one[0] == 200, by_replicas
        assert regions_of(by_replicas[1]) == regions_of(by_one[1])
    words = {**DESCRIBE, "vocabulary": {"categories": ["a red thing", "a green thing"]}}
    assert regions_of(replicated.post("/v1/describe", words)[1]) == regions_of(plain.post("/v1/describe", words)[1])
    pointed = {"image": DESCRIBE["image"], "regions": [{"points": [{"x": 90, "y": 70}]}]}
    assert regions_of(replicated.post("/v1/describe", pointed)[1]) == regions_of(plain.post("/v1/describe", pointed)[1])


def test_questions_are_answered_as_by_the_plain_service(replicated: Server, plain: Server) -> None:
    fields: dict[str, Any] = {"image": DESCRIBE["image"], "messages": []}
    for question in ("List all objects.", "What is in this picture?"):
        fields["messages"].append({"role": "user", "content": question})
        by_replicas, by_one = (server.post("/v1/converse", fields) for server in (replicated, plain))
        assert by_replicas[0] == by_one[0] == 200, by_replicas
        assert by_replicas[1]["message"] == by_one[1]["message"]
        fields["messages"].append({"role": "assistant", "content": by_one[1]["message"]["content"]})


def test_the_contract_is_the_plain_services(replicated: Server, plain: Server) -> None:
    ours, theirs = (json.loads(server.get("/openapi.json")[1]) for server in (replicated, plain))
    only = {path for path in ours["paths"] if path not in theirs["paths"]}
    assert only == {"/v1/models/reload"}  # for administrators, whom the other one does not have
    assert {path: ours["paths"][path] for path in theirs["paths"]} == theirs["paths"]
    cards = [json.loads(server.get("/v1/models")[1])["models"] for server in (replicated, plain)]
    assert cards[0] == cards[1]
    assert replicated.post("/v1/describe", {"regions": []})[0] == plain.post("/v1/describe", {"regions": []})[0] == 422


def test_a_late_request_is_told_so_and_leaves_nothing_behind(replicated: Server) -> None:
    status, answer = replicated.post("/v1/describe", DESCRIBE, **{"X-Request-Timeout": "0.02", "X-Request-Id": "late"})
    assert status == 504 and "late" in answer["instance"]
    until = time.monotonic() + PATIENCE_S
    while metric(replicated, "dynrefer_queue_regions") or metric(replicated, "dynrefer_device_regions"):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_metrics_are_of_all_replicas(replicated: Server) -> None:
    before = metric(replicated, "dynrefer_batch_regions_sum")
    assert replicated.describe(DESCRIBE)[0] == 200
    until = time.monotonic() + PATIENCE_S
    while metric(replicated, "dynrefer_batch_regions_sum") < before + len(BOXES):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert metric(replicated, 'dynrefer_replicas{state="answering"}') == 2


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_replica_that_dies_or_hangs_fails_no_request(replicated: Server, by: signal.Signals) -> None:
    right = regions_of(replicated.describe(DESCRIBE)[1])
    before, again = replicas_of(replicated), metric(replicated, "dynrefer_replica_calls_again_total")
    assert len(before) == 2
    with Load(replicated) as load:
        load.await_answers(8)
        before[0].send_signal(by)
        load.await_answers(16)
        while metric(replicated, "dynrefer_replica_calls_again_total") == again:
            load.await_answers(1)
    if by is signal.SIGSTOP:
        before[0].send_signal(signal.SIGCONT)
    assert set(load.statuses) == {200}
    assert all(regions_of(answer) == right for answer in load.answers)
    until = time.monotonic() + PATIENCE_S
    while metric(replicated, 'dynrefer_replicas{state="answering"}') < 2:
        assert time.monotonic() < until
        time.sleep(0.2)


def test_another_model_takes_its_place_without_a_failed_request(replicated: Server) -> None:
    before = {each.pid for each in replicas_of(replicated)}
    right = regions_of(replicated.describe(DESCRIBE)[1])
    with Load(replicated) as load:
        load.await_answers(4)
        headers = {"Authorization": f"Bearer {ADMIN}", "X-Request-Timeout": "110"}
        status, answer = replicated.post("/v1/models/reload", {"model": "copy"}, **headers)
        assert status == 200, answer
        load.await_answers(4)
    assert set(load.statuses) == {200}
    assert all(regions_of(answer) == right for answer in load.answers)
    assert len(replicas_of(replicated)) == 2 and not before & {each.pid for each in replicas_of(replicated)}


def test_a_model_that_cannot_be_loaded_is_named_in_one_sentence(tmp_path: Path) -> None:
    with running("dynrefer.service.cli", "serve", "--engine", "ray", "--model", str(tmp_path / "nowhere")) as server:
        assert server.process.wait(PATIENCE_S) == 2
        last = server.last_line()
        assert last.startswith("dynrefer: ") and "nowhere" in last and last.count("\n") == 1
        assert "Traceback" not in "".join(server.lines)


def test_replicas_without_their_engine_are_refused() -> None:
    command = [sys.executable, "-m", "dynrefer.service.cli", "serve", "--replicas", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and "replicas" in done.stderr and "engine ray" in done.stderr

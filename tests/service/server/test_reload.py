"""A real service with the embedded model that switches to a copy of it and back while clients ask without pause."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynrefer.model.loading import EMBEDDED
from dynrefer.service.client import (
    NO_RETRIES,
    Client,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    NotReady,
    ServerTooSlow,
    Unauthorized,
)
from tests.repository import DOCS
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

SCENE = DOCS / "scene.png"
BOXES = [(41, 2, 117, 82), (50, 88, 105, 140), (56, 148, 124, 230)]
EMBEDDED_NAME, COPY_NAME = "dynrefer-embedded", "a-copy"
CLIENTS = 4


def copy_of_embedded(directory: Path, **changes: Any) -> None:
    """A model directory like the embedded one's, with another name and other thresholds, by which it is told."""
    shutil.copytree(EMBEDDED, directory)
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "name": COPY_NAME, "revision": "copied", **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    copy_of_embedded(models / "copy", thresholds={"tags": 0.9})
    (models / "empty").mkdir()
    copy_of_embedded(models / "broken")
    (models / "broken" / "model.safetensors").write_bytes(b"no tensors")
    (models / "link").symlink_to(models / "copy")
    (models / "out").symlink_to(EMBEDDED)
    settings = {"DYNREFER_API_KEYS": "user", "DYNREFER_ADMIN_KEYS": "boss", "DYNREFER_MODELS_DIR": str(models)}
    with running("dynrefer.service.cli", "serve", "--device", "cpu", DYNREFER_LOG_FORMAT="json", **settings) as server:
        server.await_ready()
        yield server
        assert server.end(signal.SIGTERM) == 0


@pytest.fixture
def admin(server: Server) -> Iterator[Client]:
    with Client(server.address, key="boss", timeout=120) as client:
        yield client


def answer(client: Client) -> tuple[str, Any]:
    """(the model that answered, what it said of the regions), without what differs from call to call."""
    document: Any = client.describe(str(SCENE), BOXES).document
    regions = [{name: each for name, each in region.items() if name != "timings_ms"} for region in document["regions"]]
    return document["model"], regions


def test_models_take_turns_while_clients_ask_and_no_request_fails(server: Server, admin: Client) -> None:
    alone = dict([answer(admin)])
    admin.reload_model("copy", timeout=120)
    alone |= dict([answer(admin)])
    assert set(alone) == {EMBEDDED_NAME, COPY_NAME} and alone[EMBEDDED_NAME] != alone[COPY_NAME]
    over, found, errors = threading.Event(), [], []

    def ask() -> None:
        with Client(server.address, key="user", timeout=120, retries=NO_RETRIES) as client:
            while not over.is_set():
                try:
                    found.append(answer(client))
                except Exception as error:
                    errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for each in threads:
        each.start()
    try:
        for _ in range(5):
            for expected in ("embedded", "copy"):
                assert admin.reload_model(previous=True, timeout=120).model == expected
                assert admin.is_ready()
    finally:
        over.set()
        for each in threads:
            each.join(120)
    assert errors == []
    assert {name for name, _ in found} == {EMBEDDED_NAME, COPY_NAME}
    assert all(regions == alone[name] for name, regions in found)


def memory_mb(server: Server) -> float:
    """What the process itself has in memory."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_ten_switches_take_no_memory_that_stays(server: Server, admin: Client) -> None:
    """A model that stayed would be ten times its files by then; torch's and the system's own pools come and go."""
    for _ in range(2):
        admin.reload_model("copy", timeout=120)
    before = memory_mb(server)
    for _ in range(10):
        admin.reload_model("copy", timeout=120)
    files_mb = sum(each.stat().st_size for each in EMBEDDED.rglob("*") if each.is_file()) / 2**20
    assert memory_mb(server) - before < 10 * files_mb / 2


@pytest.mark.parametrize(
    ("model", "kind", "sentence"),
    [
        ("nowhere", "invalid-request", "There is no directory 'nowhere' in the folder models_dir"),
        ("..", "invalid-request", "'..' is not in the folder models_dir"),
        ("../", "invalid-request", "is not in the folder models_dir"),
        (".", "invalid-request", "'.' is not in the folder models_dir"),
        ("/etc", "invalid-request", "'/etc' is not in the folder models_dir"),
        ("out", "invalid-request", "'out' is not in the folder models_dir"),
        ("a\0b", "invalid-request", "in the folder models_dir"),
        ("x" * 1_000, "invalid-request", "in the folder models_dir"),
        ("copy/config.json", "invalid-request", "There is no directory"),
        ("empty", "model-not-loaded", "is empty or has no config.json. The model that served goes on."),
        ("broken", "model-not-loaded", "The model that served goes on."),
    ],
)
def test_a_model_that_cannot_serve_is_told_in_a_sentence(admin: Client, model: str, kind: str, sentence: str) -> None:
    serving = admin.reload_status()
    with pytest.raises(InvalidRequest) as refused:
        admin.reload_model(model, timeout=120)
    assert refused.value.type == f"urn:problem-type:dynrefer:{kind}" and sentence in refused.value.detail
    assert [each.pointer for each in refused.value.errors] == ["/model"]
    assert answer(admin)[0] == serving.name and admin.is_ready()
    status = admin.reload_status()
    assert replace(status, last_failure=None) == replace(serving, last_failure=None)
    if kind == "model-not-loaded":
        assert status.last_failure is not None and status.last_failure.startswith(f"{model}, 20")


def test_unloading_first_and_back_again_where_that_fails(admin: Client) -> None:
    assert admin.reload_model("copy", unload_first=True, timeout=120).name == COPY_NAME
    with pytest.raises(InvalidRequest, match="The model that served before was loaded again"):
        admin.reload_model("broken", unload_first=True, timeout=120)
    assert answer(admin)[0] == COPY_NAME


def test_a_link_stands_for_what_it_leads_to(admin: Client) -> None:
    status = admin.reload_model("link", timeout=120)
    assert (status.model, status.name) == ("link", COPY_NAME)


def test_only_administrators_may(server: Server) -> None:
    with Client(server.address, key="user") as client:
        with pytest.raises(Forbidden, match="send the key of an administrator"):
            client.reload_status()
        for model in ("copy", None):
            with pytest.raises(Forbidden, match="send the key of an administrator"):
                client.reload_model(model, previous=model is None)
    with Client(server.address, key="wrong") as client, pytest.raises(Unauthorized):
        client.reload_status()
    with Client(server.address, key="boss") as client:
        assert client.model().name  # an administrator may do what others may


def test_a_switch_goes_on_when_its_client_has_left_and_no_second_one_begins(admin: Client) -> None:
    admin.reload_model("embedded", timeout=120)
    with pytest.raises(ServerTooSlow):
        admin.reload_model("copy", timeout=0.1)
    with pytest.raises(Conflict):
        admin.reload_model("copy", timeout=120)
    until(lambda: admin.reload_status().loading is None and not admin.reload_status().ending)
    assert admin.reload_status().name == COPY_NAME


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def command(server: Server, *arguments: str, key: str = "boss") -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of `dynrefer reload`."""
    done = subprocess.run(
        [sys.executable, "-m", "dynrefer.service.cli", "reload", *arguments, "--server", server.address],
        env={**os.environ, "DYNREFER_KEY": key},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command(server: Server, admin: Client) -> None:
    admin.reload_model("embedded", timeout=120)
    code, output, _ = command(server, "copy")
    assert code == 0 and output.startswith("copy serves: a-copy, revision copied, since 20")
    assert "Before it embedded did; `dynrefer reload --previous` loads that." in output
    code, output, _ = command(server, "--previous", "--json")
    assert code == 0 and json.loads(output)["model"] == "embedded"
    code, output, _ = command(server, "--show")
    assert code == 0 and output.startswith("embedded serves: dynrefer-embedded")
    code, output, error = command(server, "broken")
    assert (code, output) == (1, "") and error.startswith("dynrefer: ") and error.endswith("goes on.\n")
    for arguments, key in ((["nowhere"], "boss"), (["--show"], "user"), ([], "boss"), (["copy", "--show"], "boss")):
        code, output, error = command(server, *arguments, key=key)
        assert (code, output) == (2, "") and error.count("\n") == 1, error
    code, _, error = command(server, "copy", "--timeout", "0.1")
    assert code == 3 and error.count("\n") == 1
    until(lambda: admin.reload_status().name == COPY_NAME and not admin.reload_status().ending)


def test_every_switch_is_logged_with_the_name_of_the_key(server: Server, admin: Client) -> None:
    admin.reload_model("copy", timeout=120)
    admin.reload_model("embedded", timeout=120)
    wanted = {"level": "INFO", "model": "embedded", "previous_model": "copy", "key": "admin-1"}

    def logged() -> bool:
        entries = [json.loads(line) for line in list(server.lines) if line.startswith("{")]
        return any(wanted.items() <= {**each, "level": each["level"].upper()}.items() for each in entries)

    until(logged)
    assert not any("boss" in line for line in server.lines)


def test_a_shutdown_in_the_middle_of_a_switch(tmp_path: Path) -> None:
    """The request is told, and the process ends as it does otherwise."""
    with running("dynrefer.service.cli", "serve", "--device", "cpu", DYNREFER_ADMIN_KEYS="boss") as server:
        server.await_ready()
        errors: list[Exception] = []

        def ask() -> None:
            with Client(server.address, key="boss", timeout=120) as client:
                try:
                    client.reload_model("embedded", timeout=120)
                except Exception as error:
                    errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: any("loading the model" in line for line in list(server.lines)))
        assert server.end(signal.SIGTERM) == 0
        thread.join(120)
        assert all(isinstance(each, NotReady) and "shutting down" in str(each) for each in errors)


def test_without_keys_of_administrators_there_is_no_such_path() -> None:
    with running("tests.serve_fake") as server:
        with Client(server.address) as client, pytest.raises(NotFound):
            client.reload_status()
        assert server.end() == 0

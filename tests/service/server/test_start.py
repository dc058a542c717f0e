"""Start-up that fails: one clear line, the right exit code, no traceback."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynrefer import model
from tests.service.server.test_process import PATIENCE_S, Server, running

pytestmark = pytest.mark.server

EMBEDDED = Path(model.__file__).parent / "embedded"
NO_MEMORY_BYTES = 1_200_000_000  # of address space: enough for torch itself, or for little more


def refused(*arguments: str, code: int = 2, limit_bytes: int | None = None) -> str:
    """The error line of a `dynrefer serve` that does not start; the line with the address does not count."""

    def limit() -> None:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "dynrefer.service.cli", "serve", "--port", "0", "--device", "cpu", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        preexec_fn=limit,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Listening on ")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1 and lines[0].startswith("dynrefer: "), done.stderr
    assert not done.stdout
    return lines[0]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the embedded model, to be damaged."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "model"))


def cut_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1_000])


def misspell_config(directory: Path) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_viewz": 3}))


def empty_tokenizer(directory: Path) -> None:
    (directory / "language_tokenizer" / "tokenizer.json").write_text("[]")


def misspell_operator(directory: Path) -> None:
    """To something that is not UTF-8, of which ONNX Runtime would print to standard output."""
    path = directory / "evidence" / "tower.onnx"
    path.write_bytes(path.read_bytes().replace(b'"\x04Conv', b'"\x04\xff\xfe\xfd\xfc'))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (cut_weights, "weight"),
        (misspell_config, "num_viewz"),
        (empty_tokenizer, "language_tokenizer"),
        (misspell_operator, "tower.onnx"),
    ],
)
def test_a_damaged_model(directory: Path, damage: Callable[[Path], None], part: str) -> None:
    damage(directory)
    assert part in refused("--model", str(directory))


def test_no_model_directory(tmp_path: Path) -> None:
    assert "there is no model directory" in refused("--model", str(tmp_path / "none"))


def test_settings_that_turn_out_to_be_invalid_during_start_up(tmp_path: Path) -> None:
    assert "cannot be read" in refused("--api-keys-file", str(tmp_path / "none"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1 port {port} for the metrics" in refused("--metrics-port", str(port))


def test_variables_of_links_are_named_in_one_line_of_the_log() -> None:
    links = {"DYNREFER_SERVICE_HOST": "10.0.0.7", "DYNREFER_METRICS_PORT": "tcp://10.0.0.8:9090"}
    with running("tests.serve_fake", DYNREFER_LOG_FORMAT="json", **links) as server:
        server.await_ready()
        assert server.end() == 0
        (line,) = [json.loads(line) for line in server.lines if "ignored" in line]
        assert all(name in line["message"] for name in links) and "10.0.0" not in line["message"]


def threads_of(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def test_metrics_on_a_port_of_their_own() -> None:
    with running("tests.serve_fake", DYNREFER_METRICS_PORT="0", DYNREFER_API_KEYS="sesame") as server:
        server.await_ready()
        address = next(line for line in server.lines if line.startswith("Metrics on ")).split()[-1]
        assert server.get("/metrics")[0] == 401
        server.address = address.removesuffix("/metrics")
        before = threads_of(server)
        idle = [server.connect() for _ in range(100)]
        status, text = server.get("/metrics")
        assert status == 200 and b"dynrefer_queue_regions" in text and b"dynrefer_log_lines_dropped_total 0.0" in text
        assert threads_of(server) == before
        for each in idle:
            each.close()
        for method, path, status in (
            ("HEAD", "/metrics", 200),
            ("POST", "/metrics", 405),
            ("GET", "/", 404),
            ("GET", "/metrics/", 404),
            ("GET", "/livez", 404),
        ):
            with server.connect() as connection:
                connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65_536), b""))
            assert int(answer.split()[1]) == status
            if method == "HEAD":
                assert answer.endswith(b"\r\n\r\n") and f"content-length: {len(text)}".encode()[:16] in answer
        assert server.end() == 0 and "Traceback" not in "".join(server.lines)

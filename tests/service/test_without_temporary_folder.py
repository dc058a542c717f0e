"""Nothing needs a temporary folder: neither a command nor a large request."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dynrefer.model.torch_environment import set_cache_environment
from tests.repository import ROOT
from tests.service.server.test_process import PATIENCE_S, REQUEST, Server, running

MODULE = "tests.without_temporary_folder"
NOWHERE = {"TMPDIR": "/nonexistent", "HOME": "/nonexistent"}
IMAGE = str(ROOT / "docs" / "images" / "scene.png")


def without(name: str) -> dict[str, str]:
    return {each: value for each, value in os.environ.items() if each != name}


@pytest.mark.slow
def test_describe() -> None:
    command = [sys.executable, "-m", MODULE, "describe", IMAGE, "--box", "41,2,117,82", "--task", "caption"]
    environment = without("TORCHINDUCTOR_CACHE_DIR") | NOWHERE
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "") and "caption" in done.stdout


@pytest.mark.slow
def test_the_python_interface() -> None:
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: []\n"
        "from dynrefer import DynRefer\n"
        "print(DynRefer.load('embedded', device='cpu').card.name)"
    )
    environment = without("TORCHINDUCTOR_CACHE_DIR") | NOWHERE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "dynrefer-embedded\n", "")


@pytest.mark.server
def test_serve() -> None:
    large = Path(IMAGE).read_bytes() + bytes(3_000_000)
    with running(MODULE, "serve", "--device", "cpu", **NOWHERE) as server:
        server.await_ready()
        assert server.describe(REQUEST)[0] == 200
        assert post_form(server, large) == 200
        assert server.end() == 0


def post_form(server: Server, image: bytes) -> int:
    """The status of the answer to a form."""
    fields = json.dumps({"regions": [{"box": [41, 2, 117, 82]}], "task": "tags"}).encode()
    part = b'--zz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = part % (b"request", fields) + part % (b"image", image) + b"--zz--\r\n"
    with server.connect() as connection:
        head = b"POST /v1/describe HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=zz\r\n"
        connection.sendall(head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        return int(connection.recv(65_536).split()[1])


def test_torch_is_named_a_folder_only_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    set_cache_environment()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ

    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    set_cache_environment()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_dir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/their/own")
    set_cache_environment()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/their/own"

"""The command line: help without torch, and one clear sentence for every mistake."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.conftest import picture


def dynrefer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dynrefer.service.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def refused(*arguments: str, **environment: str) -> str:
    done = dynrefer(*arguments, **environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['dynrefer', '--help']\n"
        "from dynrefer.service.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'fastapi' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout and "describe" in done.stdout and "views" in done.stdout


def test_serve_lists_every_setting() -> None:
    text = dynrefer("serve", "--help").stdout
    assert "--max-body-bytes" in text and "DYNREFER_PORT" in text and "--api-keys " not in text


def test_mistakes_in_settings() -> None:
    assert "--portt" in refused("serve", "--portt", "1")
    assert "--port 'x'" in refused("serve", "--port", "x")
    assert "DYNREFER_MAX_BODY_BYTES" in refused("serve", DYNREFER_MAX_BODY="1")


def test_port_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in refused("serve", "--port", str(port))


@pytest.mark.parametrize("command", ["describe", "views"])
def test_mistakes_in_pictures_and_boxes(command: str, tmp_path: Path) -> None:
    good, text = tmp_path / "a.png", tmp_path / "a.txt"
    good.write_bytes(picture())
    text.write_text("hello")
    draw, box = ["--draw", str(tmp_path / "out.png")], ["--box", "1,2,3,4"]
    assert "no such file" in refused(command, str(tmp_path / "none.png"), *box, *draw)
    assert "accepted formats" in refused(command, str(text), *box, *draw)
    assert "1,2,3 is not four numbers" in refused(command, str(good), "--box", "1,2,3", *draw)
    assert "--box" in refused(command, str(good), *draw)
    assert "--task poem is unknown" in refused(command, str(good), *box, *draw, "--task", "poem")
    assert "no such folder" in refused(command, str(good), *box, "--draw", str(tmp_path / "no" / "out.png"))
    assert "ending" in refused(command, str(good), *box, "--draw", str(tmp_path / "out"))

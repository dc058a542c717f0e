"""Listening on a Unix socket: whose file is replaced, which is left alone, and what remains at the end."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from dynrefer.service.server.unix_socket import unix_socket
from dynrefer.service.settings import SettingsError
from tests.service.server.test_process import PATIENCE_S, running
from tests.service.test_cli import refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "http.sock"


def ask(path: Path, line: bytes = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(line)
        return b"".join(iter(lambda: client.recv(65_536), b""))


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as error, unix_socket(path):
        raise AssertionError
    assert str(path) in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def test_owner_and_group_may_connect_and_nothing_remains(path: Path) -> None:
    before = os.umask(0)
    os.umask(before)
    with unix_socket(path) as listener:
        assert listener.getsockname() == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists() and os.umask(before) == before


def test_the_file_of_a_process_that_has_ended_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with unix_socket(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [0, 8])
def test_a_process_that_listens_is_left_alone(path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as waiting:
        alive.bind(str(path))
        alive.listen(backlog)
        waiting.connect(str(path))  # with a queue of none it is full
        assert "another process listens" in refusal(path)
        alive.accept()[0].close()
        assert path.is_socket()


def test_what_is_no_socket_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_text("precious")
    assert "is no socket" in refusal(path) and path.read_text() == "precious"
    assert "is no socket" in refusal(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert "is no socket" in refusal(link) and link.is_symlink()


def test_where_the_system_refuses(tmp_path: Path) -> None:
    assert "no such file or directory" in refusal(tmp_path / "none" / "http.sock")
    assert "the path is too long" in refusal(tmp_path / ("a" * 200))
    (tmp_path / "file").touch()
    assert "not a directory" in refusal(tmp_path / "file" / "http.sock")


def test_a_file_that_is_another_process_by_now_is_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        with unix_socket(path):
            path.unlink()
            other.bind(str(path))
        assert path.is_socket()


@pytest.mark.server
def test_serving(path: Path) -> None:
    with running("tests.serve_fake", DYNREFER_UNIX_SOCKET=str(path)) as server:
        assert server.lines[-1] == f"Listening on unix:{path}\n"
        head, _, body = ask(path).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and json.loads(body) == {"status": "alive"}
        assert b" 400 " in ask(path, b"hello\r\n\r\n")
        assert "another process listens" in refused("serve", "--unix-socket", str(path))
        assert server.end() == 0
    assert not path.exists()

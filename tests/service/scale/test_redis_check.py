"""The Redis of `shared_cache` at start: one sentence for what will never work, a line for one that may answer later."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynrefer.service.scale.redis_check import UNREACHABLE, check_store
from dynrefer.service.settings import Settings, SettingsError
from tests.repository import ROOT
from tests.service.scale.redis_server import PATIENCE_S, another_protocol, black_hole, listener, running_redis
from tests.system_programs import needs

pytest.importorskip("redis")
needs_redis = needs("redis-server", "redis-server")
needs_openssl = needs("openssl", "openssl")
PASSWORD = "the-right-one"


@dataclass
class Servers:
    """plain: a port without TLS and password; tls: one with both. unix: a socket with the password. folder: of both."""

    plain: int
    tls: int
    unix: str
    folder: Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("s")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-keyout",
    ]
    subprocess.run([*made, str(key), "-out", str(certificate)], check=True, capture_output=True)
    for name in ("a", "b"):
        (folder / name).mkdir()
    plain, tls = free_port(), free_port()
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    options = ("--requirepass", PASSWORD, "--tls-port", str(tls), "--tls-auth-clients", "no", *files)
    with running_redis(folder / "a", "--port", str(plain)), running_redis(folder / "b", *options) as secured:
        yield Servers(plain, tls, secured.url.removeprefix("unix://"), folder)


def said_of(url: str) -> str:
    return check_store(Settings(shared_cache=url))  # type: ignore[arg-type]


@needs_redis
@needs_openssl
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://127.0.0.1:{plain}/99", "the server has no database of that number"),
        ("redis://:needless@127.0.0.1:{plain}/0", "the server has no password, and the URL gives one"),
        ("redis://me:wrong@127.0.0.1:{plain}/0", "the server refuses the user name or the password"),
        ("unix://{unix}", "the server refuses the user name or the password, or wants one: set them in DYNREFER_"),
        ("unix://:wrong@{unix}", "the server refuses the user name or the password"),
        ("rediss://127.0.0.1:{plain}/0", "the server speaks no TLS: write redis://"),
        ("redis://:the-right-one@127.0.0.1:{tls}/0", "the server speaks TLS alone: write rediss://"),
        ("rediss://:the-right-one@localhost:{tls}/0", "the server's certificate is not trusted here"),
        ("rediss://localhost:{tls}/0?ssl_ca_certs={folder}/nothing.pem", "ssl_ca_certs names no file: /"),
    ],
)
def test_what_will_never_work_is_a_sentence_without_the_password(servers: Servers, url: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        said_of(url.format(**vars(servers)))
    assert str(refused.value).startswith(f"shared_cache: {sentence}")
    assert not any(each in str(refused.value) for each in ("the-right-one", "wrong", "needless"))


@needs_redis
@needs_openssl
def test_of_what_works_nothing_is_said(servers: Servers) -> None:
    certificates = f"?ssl_ca_certs={servers.folder}/certificate.pem"
    for url in (
        f"redis://127.0.0.1:{servers.plain}/3",
        f"unix://:{PASSWORD}@{servers.unix}?db=1",
        f"rediss://:{PASSWORD}@localhost:{servers.tls}/0{certificates}",
    ):
        assert said_of(url) == ""
    assert check_store(Settings()) == ""


def test_what_does_not_answer_may_answer_later(tmp_path: Path) -> None:
    assert said_of(f"redis://127.0.0.1:{free_port()}/0") == UNREACHABLE
    assert said_of(f"unix://{tmp_path}/nothing.sock") == UNREACHABLE
    with listener(black_hole) as url:
        assert said_of(url) == UNREACHABLE


def test_another_program_is_no_redis() -> None:
    with listener(another_protocol) as url, pytest.raises(SettingsError, match="what answers there is no Redis"):
        said_of(url)


def test_another_scheme_is_tried_without_name_and_password() -> None:
    seen: list[bytes] = []

    def hears(connection: socket.socket) -> None:
        while data := connection.recv(65_536):
            seen.append(data)
            connection.close()

    with listener(hears) as url:
        assert said_of(url.replace("redis://", "rediss://me:secret-1@")) == UNREACHABLE
    assert seen and b"secret-1" not in b"".join(seen)


@pytest.mark.server
def test_the_command_ends_with_the_sentence_alone() -> None:
    with listener(another_protocol) as url:
        done = subprocess.run(
            [sys.executable, "-m", "dynrefer.service.cli", "serve", "--port", "0", "--shared-cache", url],
            cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == "dynrefer: shared_cache: what answers there is no Redis; name the port of one.\n"

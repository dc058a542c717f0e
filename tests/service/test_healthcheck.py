"""The container's health check finds the service wherever the variables let it listen."""

import http.server
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dynrefer.service.healthcheck import DEFAULT_PORT, PORTS, connection, is_ready
from dynrefer.service.settings import PLATFORM_PORTS, Settings


class Probe(http.server.BaseHTTPRequestHandler):
    """/readyz as ready as `status` says."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def address_string(self) -> str:
        return ""

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


Start = Callable[..., socketserver.BaseServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(server class, address, status) starts a server with one answer."""
    servers = []

    def begin(kind: Callable[..., socketserver.BaseServer], address: object, status: int) -> socketserver.BaseServer:
        server = kind(address, type("Fixed", (Probe,), {"status": status}))
        servers.append(server)
        threading.Thread(target=server.serve_forever).start()
        return server

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_a_port_and_a_unix_socket(start: Start, tmp_path: Path, status: int, ready: bool) -> None:
    address = start(http.server.HTTPServer, ("127.0.0.1", 0), status).server_address
    assert isinstance(address, tuple)
    assert is_ready({"DYNREFER_HOST": "0.0.0.0", "DYNREFER_PORT": str(address[1])}) is ready
    path = str(tmp_path / "http.sock")
    start(socketserver.UnixStreamServer, path, status)
    assert is_ready({"DYNREFER_UNIX_SOCKET": path, "DYNREFER_PORT": "1"}) is ready


def test_nothing_listens(tmp_path: Path) -> None:
    assert not is_ready({"DYNREFER_UNIX_SOCKET": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("host", "port", "asked"),
    [
        ("", "", ("127.0.0.1", 8000)),
        ("0.0.0.0", "tcp://10.0.0.7:8000", ("127.0.0.1", 8000)),
        ("[::1]", "9000", ("::1", 9000)),
        ("10.0.0.5", "9000", ("10.0.0.5", 9000)),
    ],
)
def test_where_it_asks(host: str, port: str, asked: tuple[str, int]) -> None:
    found = connection({"DYNREFER_HOST": host, "DYNREFER_PORT": port})
    assert (found.host, found.port) == asked


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({"PORT": "5000"}, 5000),
        ({"PORT": "5000", "AIP_HTTP_PORT": "8080"}, 8080),
        ({"PORT": "5000", "DYNREFER_PORT": "9000"}, 9000),
        ({"PORT": "5000", "DYNREFER_PORT": "tcp://10.0.0.7:8000"}, 5000),
    ],
)
def test_it_asks_at_the_platforms_port(variables: dict[str, str], port: int) -> None:
    assert connection(variables).port == port


def test_the_defaults_are_those_of_the_settings() -> None:
    assert Settings.model_fields["port"].default == DEFAULT_PORT
    assert ("DYNREFER_PORT", *PLATFORM_PORTS) == PORTS

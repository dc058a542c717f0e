"""A server that answers what a test tells it to, byte by byte if need be: what a real service does not do at will."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What is done with a connection once a request is read: true keeps it open.
Answer = Callable[[socket.socket, "Received"], bool]

REGION = {
    "id": "0",
    "box": [1.0, 2.0, 3.0, 4.0],
    "clipped": False,
    "views": [{"t": 0.0, "box": [1.0, 2.0, 3.0, 4.0]}],
    "view_policy": "task_prior",
    "caption": {"text": "a dog", "score": 0.5, "logprob_sum": -1.0, "logprob_mean": -0.25},
    "timings_ms": {"views": 1.0},
}
DESCRIBED = {
    "id": "req_1",
    "model": "scripted",
    "image": {"width": 8, "height": 6},
    "regions": [REGION],
    "timings_ms": {"total": 2.0},
}


@dataclass
class Received:
    """A request. connection: counts the connections, so that a test sees which are used again."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int

    def part(self, name: str) -> bytes:
        """A part of its multipart form."""
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        for part in self.body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            if f'name="{name}"'.encode() in head:
                return content[:-2]
        raise KeyError(name)

    @property
    def document(self) -> Any:
        """The JSON of its form, or of its body."""
        form = self.headers["content-type"].startswith("multipart/")
        return json.loads(self.part("request") if form else self.body)


@dataclass
class Script:
    """answers: what is answered in turn; the last one again and again. received: the requests so far.

    most_at_once: requests that were being answered at the same time.
    """

    url: str
    answers: list[Answer]
    received: list[Received] = field(default_factory=list)
    open_connections: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self, request: Received) -> Answer:
        with self._lock:
            self.received.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def answering(self, change: int) -> None:
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    @contextmanager
    def connection(self) -> Iterator[None]:
        with self._lock:
            self.open_connections += 1
        try:
            yield
        finally:
            with self._lock:
                self.open_connections -= 1


def answer(status: int = 200, document: Any = DESCRIBED, **headers: str) -> Answer:
    """A whole answer. Names of headers with _ for -."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body, keep=True)


def problem(status: int, detail: str = "A sentence.", *errors: dict[str, str], **headers: str) -> Answer:
    """A problem document."""
    document: dict[str, Any] = {"type": "urn:problem-type:dynrefer:a", "title": "A", "status": status, "detail": detail}
    if errors:
        document["errors"] = errors
    return answer(status, document, content_type="application/problem+json", x_request_id="req_9", **headers)


def raw(data: bytes, *, keep: bool = False) -> Answer:
    """These bytes, and unless they are kept open the end of the connection."""

    def send(connection: socket.socket, _: Received) -> bool:
        connection.sendall(data)
        return keep

    return send


def hang(connection: socket.socket, _: Received) -> bool:
    """Nothing, until the client has gone."""
    connection.recv(1)
    return False


def trickle(connection: socket.socket, _: Received) -> bool:
    """The head of an answer, and then a blank now and then, until the client has gone."""
    connection.sendall(b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\n")
    connection.settimeout(0.02)
    while True:
        connection.sendall(b" ")
        with suppress(TimeoutError):
            if connection.recv(1) == b"":
                return False


@contextmanager
def scripted(*answers: Answer, context: ssl.SSLContext | None = None, unix: Path | None = None) -> Iterator[Script]:
    """A server with these answers, on a free port of the loopback interface or a Unix socket. context: of TLS."""
    unix_socket = None if unix is None else socket.socket(socket.AF_UNIX)
    with unix_socket or socket.create_server(("127.0.0.1", 0)) as listener:
        if unix_socket is not None:
            unix_socket.bind(str(unix))
            unix_socket.listen()
        port = 0 if unix_socket is not None else listener.getsockname()[1]
        script = Script(f"{'https' if context else 'http'}://127.0.0.1:{port}", list(answers))
        threading.Thread(target=_accept, args=(listener, script, context), daemon=True).start()
        yield script
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def closed_url() -> str:
    """Of a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, script: Script, context: ssl.SSLContext | None) -> None:
    for number in range(1_000_000):
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(connection, script, context, number), daemon=True).start()


def _serve(connection: socket.socket, script: Script, context: ssl.SSLContext | None, number: int) -> None:
    with suppress(OSError), connection, script.connection():
        wrapped = connection if context is None else context.wrap_socket(connection, server_side=True)
        with wrapped:
            while (request := _read(wrapped, number)) is not None:
                script.answering(1)
                try:
                    keep = script.next_answer(request)(wrapped, request)
                finally:
                    script.answering(-1)
                if not keep:
                    return


def _read(connection: socket.socket, number: int) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65_536)
    return Received(line, headers, body, number)


def words(received: Sequence[Received]) -> list[str]:
    """The request lines, without the version."""
    return [each.line.rpartition(" ")[0] for each in received]

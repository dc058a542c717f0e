"""Pipes, file descriptors, threads and buffers: what runs out, and what the service does then."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.attacks.findings import Finding, unexpected
from benchmarks.attacks.images import png
from benchmarks.attacks.served import Answer, Client, Service, Watch, at_once

PIPE_BYTES = 4_096
LINES = 300  # requests, each of which writes a line to the log
EXIT_S = 15.0

OPEN_FILES, CONNECTIONS = 256, 400
LIMIT_S = 5.0  # how long the limit on file descriptors is kept reached
TRACEBACKS, LOG_BYTES, CPU_S = 10, 50_000, 1.0

SCRAPERS, MORE_THREADS = 300, 20

BOUND, FETCHED, FETCHES, HOLD_S = 64_000_000, 30_000_000, 8, 6.0
HOST, ADDRESS = "images.example.org", "93.184.215.14"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unread_log() -> Iterator[Finding]:
    """Standard error is a pipe that nobody reads, or one whose reader has gone: go on answering, and end on SIGTERM."""
    for case, image, log_level in (
        ("nobody reads", None, "info"),
        ("nobody reads, broken Exif", png.broken_exif(65_535), "debug"),
        ("the reader has gone", None, "info"),
    ):
        port = _free_port()
        service = Service(stderr=subprocess.PIPE, port=port, wait=False, shutdown_grace_s=2, log_level=log_level)
        service.port = port
        assert service.process.stderr is not None
        try:
            fcntl.fcntl(service.process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # so that it fills sooner
            if case == "the reader has gone":
                service.process.stderr.close()
            service.await_ready()
            answered = _answered(service, LINES)
            described = service.describe(image).status if image else None
            alive = service.get("/livez", 5).status
            service.process.send_signal(signal.SIGTERM)
            try:
                code: int | None = service.process.wait(EXIT_S)
            except subprocess.TimeoutExpired:
                code = None
        finally:
            service.stop()
        yield Finding(
            case,
            answered == LINES and alive == 200 and code == 0 and described in (None, 200, 422),
            f"{answered} of {LINES} requests answered, the image {described}, /livez {alive}, exit code {code}",
            {"answered": answered, "livez": alive, "exit_code": code},
        )


def _answered(service: Service, requests: int) -> int:
    """How many requests are answered before one is not."""
    for done in range(requests):
        if service.get("/nowhere", 5).status != 404:
            return done
    return requests


def file_descriptors() -> Iterator[Finding]:
    """More connections than open files are allowed: a line now and then, little work, and service afterwards."""
    for case, text in (
        ("idle connections", b""),
        ("requests that do not end", b"POST /v1/describe HTTP/1.1\r\nHost: a\r\n"),
    ):
        with Service(open_files=OPEN_FILES) as service:
            log_before, cpu_s = service.log(), service.cpu_s()
            links = []
            for _ in range(CONNECTIONS):
                link = socket.create_connection((service.host, service.port), timeout=5)
                link.sendall(text)
                links.append(link)
            time.sleep(LIMIT_S)
            log, cpu_s = service.log()[len(log_before) :], service.cpu_s() - cpu_s
            for link in links:
                link.close()
            time.sleep(2)
            after, described = service.get("/livez", 10), service.describe(timeout_s=15).status
        tracebacks = log.count("Traceback")
        yield Finding(
            case,
            tracebacks <= TRACEBACKS
            and len(log) <= LOG_BYTES
            and cpu_s <= CPU_S
            and after.status == 200
            and described == 200,
            f"{LIMIT_S:.0f} s: {tracebacks} tracebacks, {len(log) / 1e3:.1f} kB of log, {cpu_s:.2f} CPU s, "
            f"/livez {after.status} in {after.seconds:.2f} s afterwards, an image {described}",
            {"tracebacks": tracebacks, "log_bytes": len(log), "cpu_s": round(cpu_s, 2), "livez": after.status},
        )


def metrics_connections() -> Iterator[Finding]:
    """Idle and half-sent connections to the metrics' own port take no thread each, and a scrape is answered."""
    for case, text in (("idle", b""), ("half a request", b"GET /metrics HTTP/1.1\r\nHost: a\r\n")):
        port = _free_port()
        with Service(metrics_port=port) as service:
            service.describe()
            before = service.threads()
            links = []
            for _ in range(SCRAPERS):
                link = socket.create_connection(("127.0.0.1", port), timeout=5)
                link.sendall(text)
                links.append(link)
            time.sleep(2)
            more = service.threads() - before
            scrape, livez = Client("127.0.0.1", port).get("/metrics", 10).status, service.get("/livez").status
            for link in links:
                link.close()
        yield Finding(
            case,
            more <= MORE_THREADS and scrape == livez == 200,
            f"{SCRAPERS} connections make {more} more threads (from {before}); a scrape {scrape}, /livez {livez}",
            {"threads": before, "more_threads": more, "scrape": scrape, "livez": livez},
        )


class _ImageSite:
    """An https server that holds back the last byte of each response, so that what was fetched stays in memory."""

    def __init__(self, folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(HOST).configure_cert(self._context)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.listed = True  # whether Content-Length is sent
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            link, _ = self._socket.accept()
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        length = b"Content-Length: %d\r\n" % FETCHED if self.listed else b""
        try:
            with self._context.wrap_socket(link, server_side=True) as tls:
                tls.recv(65_536)
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n%sConnection: close\r\n\r\n" % length)
                tls.sendall(png.SIGNATURE + bytes(FETCHED - len(png.SIGNATURE) - 1))
                time.sleep(HOLD_S)
                tls.sendall(b"\0")
        except OSError:
            pass


# Read by the service at its start: names and connects HOST's public address to the server above.
_REDIRECTION = """
import socket
resolve, connect = socket.getaddrinfo, socket.socket.connect
def getaddrinfo(host, *rest, **named):
    return resolve({address!r} if host in ({host!r}, {host!r}.encode()) else host, *rest, **named)
def redirected(self, address):
    return connect(self, ("127.0.0.1", {port}) if address[0] == {address!r} else address)
socket.getaddrinfo, socket.socket.connect = getaddrinfo, redirected
"""


@contextmanager
def _fetching_service() -> Iterator[tuple[Service, _ImageSite]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = _ImageSite(folder)
        text = _REDIRECTION.format(host=HOST, address=ADDRESS, port=site.port)
        (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
        environment = {"PYTHONPATH": name, "SSL_CERT_FILE": str(folder / "ca.pem")}
        with Service(
            environment=environment,
            image_url_hosts=HOST,
            image_url_timeout_s=30,
            max_body_bytes=32_000_000,
            max_buffered_bytes=BOUND,
        ) as service:
            service.describe()
            yield service, site


def _buffered(service: Service) -> float:
    found = re.search(rb"^dynrefer_buffered_bytes (\S+)", service.get("/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0


def fetched_bytes() -> Iterator[Finding]:
    """Eight images of 30 MB fetched by URL at once count like bodies: with their length listed, and without."""
    request = {"image": {"url": f"https://{HOST}/a.png"}, "regions": [{"box": [2, 2, 30, 30]}]}
    body = json.dumps(request).encode()
    with _fetching_service() as (service, site):
        for site.listed in (True, False):
            before = service.memory_gb()
            with (
                Watch(service.memory_gb, 0.05) as memory,
                Watch(lambda: _buffered(service), 0.2) as counted,
            ):
                answers: list[Answer] = at_once([lambda: service.post_json(body)] * FETCHES)
            growth, statuses = (max(memory.seen) - before) * 1e9, [each.status for each in answers]
            yield Finding(
                f"length {'listed' if site.listed else 'not listed'}",
                growth <= 2 * BOUND and max(counted.seen) <= BOUND and not unexpected(statuses),
                f"{FETCHES} fetches of {FETCHED / 1e6:.0f} MB with a bound of {BOUND / 1e6:.0f} MB: grows by "
                f"{growth / 1e6:.0f} MB, dynrefer_buffered_bytes up to {max(counted.seen):,.0f}, statuses {statuses}",
                {"growth_mb": round(growth / 1e6, 1), "counted": max(counted.seen), "statuses": statuses},
            )
            service.settle(10)

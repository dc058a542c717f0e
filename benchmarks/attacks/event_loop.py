"""What holds up the event loop: /livez is asked every few milliseconds while others send the worst that is allowed.

The clients are a process of their own, so that the times of /livez are not theirs.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.attacks import images
from benchmarks.attacks.findings import Finding, unexpected
from benchmarks.attacks.served import THUMBNAIL_BOX, Answer, Client, Service, Watch, at_once, longest, percentile_ms

P99_MS, LONGEST_MS = 50.0, 120.0
BODY_MS = 60.0  # while one body of JSON is read
OPENAPI_MS = 8.0  # more than /livez
CLIENTS, SECONDS = 8, 20.0
BODY_BYTES = 131_000  # just below the limit on JSON without an image


def send_images(host: str, port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> list[int]:
    """In this process: clients that send the images in turn, each from another one on, until the time is over."""
    client, until = Client(host, port), time.monotonic() + seconds

    def send(first: int) -> list[int]:
        statuses: list[int] = []
        while time.monotonic() < until:
            image = bodies[(first + len(statuses)) % len(bodies)]
            statuses.append(client.describe(image, (THUMBNAIL_BOX,), None).status)
        return statuses

    return sum(at_once([partial(send, first) for first in range(clients)]), [])


def asked_beside(
    service: Service, ask: Callable[[], Answer], pause_s: float, bodies: Sequence[bytes], clients: int, seconds: float
) -> tuple[list[Answer], list[int]]:
    """Answers of `ask`, called again and again while clients send the images, and the statuses of those."""
    with multiprocessing.get_context("spawn").Pool(1) as pool, Watch(ask, pause_s) as asked:
        statuses = pool.apply(send_images, (service.host, service.port, bodies, clients, seconds))
    return asked.seen, statuses


def livez_beside(
    service: Service, bodies: Sequence[bytes], clients: int, seconds: float
) -> tuple[list[Answer], list[int]]:
    """`asked_beside` for /livez, every few milliseconds."""
    return asked_beside(service, lambda: service.get("/livez"), 0.005, bodies, clients, seconds)


def worst_legal_files() -> Iterator[Finding]:
    """Eight clients with all of them in turn, and two with each alone."""
    files = {name: make() for name, make in images.worst_legal_files().items()}
    with Service(max_buffered_bytes=2_000_000_000) as service:
        service.describe()
        before = service.memory_gb()
        with Watch(service.memory_gb, 0.1) as memory:
            livez, statuses = livez_beside(service, list(files.values()), CLIENTS, SECONDS)
        finding = _livez(f"{CLIENTS} clients, all files in turn", livez, statuses)
        finding.figures["growth_gb"] = round(max(memory.seen) - before, 3)
        yield finding
        for name, data in files.items():
            yield _livez(f"2 clients, {name}", *livez_beside(service, [data], 2, 4.0))


def _livez(case: str, livez: Sequence[Answer], statuses: Sequence[int]) -> Finding:
    p99_ms, longest_ms = percentile_ms(livez, 99), longest(livez) * 1e3
    failed = [each.status for each in livez if each.status != 200]
    ok = p99_ms <= P99_MS and longest_ms <= LONGEST_MS and not failed and not unexpected(statuses)
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    return Finding(
        case,
        ok,
        f"/livez p99 {p99_ms:.1f} ms, longest {longest_ms:.1f} ms of {len(livez)}, failures {failed}; answers {counts}",
        {"p99_ms": round(p99_ms, 2), "longest_ms": round(longest_ms, 2), "statuses": sorted(set(statuses))},
    )


def json_bodies() -> dict[str, bytes]:
    """Bodies of up to 131 kB that are dear to parse or to validate."""
    start = b'{"image":{"base64":""},"regions":['
    region = start + b'{"box":[0,0,1,1]}]'

    def filled(head: bytes, unit: bytes, tail: bytes) -> bytes:
        units = (BODY_BYTES - len(head) - len(tail)) // len(unit)
        return head + (unit * units).rstrip(b",") + tail

    return {
        "numbers as regions": filled(start, b"0,", b"]}"),
        "empty regions": filled(start, b"{},", b"]}"),
        "empty lists as regions": filled(start, b"[],", b"]}"),
        "null as regions": filled(start, b"null,", b"]}"),
        "texts as regions": filled(start, b'"",', b"]}"),
        "regions of wrong members": filled(start, b'{"a":0,"b":0},', b"]}"),
        "regions of wrong boxes": filled(start, b'{"box":[]},', b"]}"),
        "a box of many numbers": filled(start + b'{"box":[', b"0,", b"]}]}"),
        "a box of many texts": filled(start + b'{"box":[', b'"",', b"]}]}"),
        "numbers as controls": filled(region + b',"controls":[', b"0,", b"]}"),
        "short controls": filled(region + b',"controls":[', b'"a",', b"]}"),
        "many tasks": filled(region + b',"task":[', b'"tags",', b"]}"),
        "unknown tasks": filled(region + b',"task":[', b'"x",', b"]}"),
        "many views": filled(region + b',"views":[', b"0,", b"]}"),
        "many thresholds": filled(region + b',"thresholds":{', b'"tags":0,', b'"tags":0}}'),
        "members of the document": b"{" + b",".join(b'"k%d":0' % index for index in range(12_500)) + b"}",
        "one member again and again": filled(b"{", b'"a":0,', b'"a":0}'),
        "nested lists": b"[" * 60_000 + b"]" * 60_000,
        "nested objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        "long numbers": filled(start, b"1" * 4_000 + b",", b"]}"),
        "long fractions": filled(start + b'{"box":[', b"0." + b"3" * 4_000 + b",", b"]}]}"),
        "escapes": filled(b'{"image":{"base64":"', b"\\u0041", b'"}}'),
        "one long text": filled(b'{"image":{"base64":"', b"x", b'"}}'),
        "white space": filled(b"{", b" ", b"}"),
    }


def json_on_the_loop() -> Iterator[Finding]:
    """Each body five times by one client, then by ten clients at once."""
    with Service() as service:
        service.describe()
        for name, body in json_bodies().items():

            def send(body: bytes = body) -> list[Answer]:
                return [service.post_json(body) for _ in range(5)]

            with Watch(lambda: service.get("/livez"), 0.005) as livez:
                answers = send()
            with Watch(lambda: service.get("/livez"), 0.005) as livez_of_ten:
                answers += sum(at_once([send] * 10), [])
            statuses = sorted({each.status for each in answers})
            alone_ms, ten_ms = longest(livez.seen) * 1e3, longest(livez_of_ten.seen) * 1e3
            yield Finding(
                name,
                alone_ms <= BODY_MS and not unexpected(statuses),
                f"/livez waits {alone_ms:.0f} ms beside one client, {ten_ms:.0f} ms beside ten; answers {statuses}",
                {"alone_ms": round(alone_ms, 1), "ten_ms": round(ten_ms, 1), "statuses": statuses},
            )


def openapi() -> Iterator[Finding]:
    """/openapi.json and the pages are made once, not on every request."""
    with Service() as service:
        livez_ms = _median_ms(lambda: service.get("/livez"))
        for path in ("/openapi.json", "/docs", "/", "/v1/models"):
            took_ms = _median_ms(lambda path=path: service.get(path))  # type: ignore[misc]
            yield Finding(
                path,
                took_ms <= livez_ms + OPENAPI_MS,
                f"{took_ms:.1f} ms, /livez {livez_ms:.1f} ms (medians of 30)",
                {"ms": round(took_ms, 2), "livez_ms": round(livez_ms, 2)},
            )


def _median_ms(ask: Callable[[], Answer]) -> float:
    ask()
    return statistics.median(ask().seconds for _ in range(30)) * 1e3

"""What one hostile image costs: CPU seconds and memory of the whole process tree, and what others wait beside it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.attacks import images
from benchmarks.attacks.findings import Figure, Finding, unexpected
from benchmarks.attacks.served import Answer, Service, Watch, at_once, longest

CPU_S = 3.0  # of one image, with the worker that replaces a killed one
GROWTH_GB = 0.6  # of one image
NEIGHBOUR_S = 2.0
LOG_BYTES = 50_000  # of one image
REST_S = 20.0  # until the service is idle again
COPIES = 2  # at the same time: as many as there are workers by default
DEADLINE_S = 10.0


def image_cost(only: str = "") -> Iterator[Finding]:
    """Every image of the catalogue, or those whose name contains `only`: two copies at once, beside an ordinary client
    that sends a thumbnail again and again."""
    service: Service | None = None
    for name, make in images.catalogue().items():
        if only not in name:
            continue
        data = make()
        if service is None:
            service = Service()
            thumbnail_s = _thumbnail_cpu_s(service)
        yield _cost_of(name, data, service, thumbnail_s)
        if service.process.poll() is not None or not service.settle(1.5):
            service.stop()  # what still runs would be counted against the next image
            service = None
    if service is not None:
        service.stop()


def _thumbnail_cpu_s(service: Service) -> float:
    """CPU seconds of an ordinary request, to be taken off."""
    service.describe()
    before = service.cpu_s()
    for _ in range(10):
        service.describe()
    return (service.cpu_s() - before) / 10


def _cost_of(name: str, data: bytes, service: Service, thumbnail_s: float) -> Finding:
    cpu_s, memory_gb, log_bytes = service.cpu_s(), service.memory_gb(), len(service.log())
    with (
        Watch(service.memory_gb, 0.05) as memory,
        Watch(lambda: service.describe(timeout_s=15), 0.3) as neighbour,
        Watch(lambda: service.get("/livez"), 0.02) as livez,
    ):
        answers: list[Answer] = at_once([lambda: service.describe(data, deadline_s=DEADLINE_S, timeout_s=30)] * COPIES)
    at_rest = service.settle(REST_S)
    cpu_s = (service.cpu_s() - cpu_s - thumbnail_s * len(neighbour.seen)) / COPIES
    growth_gb = (max(memory.seen) - memory_gb) / COPIES
    log_bytes = (len(service.log()) - log_bytes) // COPIES
    wait_s, statuses = longest(neighbour.seen), [each.status for each in answers]
    failed = [each.status for each in neighbour.seen if each.status != 200]
    ok = (
        cpu_s <= CPU_S
        and growth_gb <= GROWTH_GB
        and wait_s <= NEIGHBOUR_S
        and log_bytes <= LOG_BYTES
        and at_rest
        and not unexpected(statuses)
        and not failed
    )
    text = (
        f"{len(data) / 1e6:.2f} MB: {cpu_s:.1f} CPU s and {growth_gb:.2f} GB an image, "
        f"answered {statuses} after {longest(answers):.1f} s, neighbour {wait_s:.2f} s, "
        f"/livez {longest(livez.seen) * 1e3:.0f} ms{'' if at_rest else ', does not come to rest'}"
    )
    if failed:
        text += f", neighbour's failures {failed}"
    if log_bytes > LOG_BYTES:
        text += f", {log_bytes / 1e6:.1f} MB of log"
    figures: dict[str, Figure] = {
        "megabytes": round(len(data) / 1e6, 3),
        "cpu_s": round(cpu_s, 2),
        "growth_gb": round(growth_gb, 3),
        "neighbour_s": round(wait_s, 3),
        "livez_ms": round(longest(livez.seen) * 1e3, 1),
        "log_bytes": log_bytes,
        "at_rest": at_rest,
        "statuses": statuses,
    }
    return Finding(name, ok, text, figures)


def malformed_images() -> Iterator[Finding]:
    """Files that break a rule of their format: 4xx, or 200 where they can be read; and files of other kinds: 415."""
    with Service() as service:
        statuses = {name: service.describe(data).status for name, data in images.malformed().items()}
        wrong = {name: status for name, status in statuses.items() if unexpected([status], (200, 413, 415, 422))}
        yield Finding(
            "files that break a rule",
            not wrong,
            f"{len(statuses)} files, answered otherwise than 200, 413, 415 or 422: {wrong or 'none'}",
            {"files": len(statuses), "wrong": [f"{name}: {status}" for name, status in wrong.items()]},
        )
        palette = statuses["PNG, palette without PLTE"]
        yield Finding("palette without PLTE", palette == 422, f"status {palette}", {"status": palette})
        others = {name: service.describe(data).status for name, data in images.not_images().items()}
        # An empty file may be named as what it is: a part without content.
        wrong = {
            name: code for name, code in others.items() if code not in ((415, 422) if name == "nothing" else (415,))
        }
        yield Finding(
            "files of other kinds",
            not wrong,
            f"{len(others)} files, answered otherwise than 415: {wrong or 'none'}",
            {"files": len(others), "wrong": [f"{name}: {status}" for name, status in wrong.items()]},
        )
        log = service.log()
        yield Finding("no traceback in the log", "Traceback" not in log, f"{len(log):,} bytes of log", {})

"""Signals: which exit code the service ends with, how soon, and whether what it had admitted is answered."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

from benchmarks.attacks.findings import Finding
from benchmarks.attacks.images import LIMIT_SIDE, jpeg
from benchmarks.attacks.served import Answer, Service

EARLY = (0.6, 0.85, 1.0, 1.5, 2.5, 4.0)  # of the time until it listens


def _ended(case: str, service: Service, codes: Sequence[int], patience_s: float = 20.0) -> Finding:
    try:
        code: int | None = service.process.wait(patience_s)
    except subprocess.TimeoutExpired:
        code = None
    left = [each.pid for each in service.tree()[1:]]
    service.stop()
    traced = "Traceback" in service.log()
    text = f"exit code {code}{' with a traceback' if traced else ''}{f', processes left: {left}' if left else ''}"
    return Finding(case, code in codes and not traced and not left, text, {"exit_code": code, "traceback": traced})


def signals() -> Iterator[Finding]:
    """SIGTERM from before it listens on, SIGHUP, and a second signal after the first."""
    began = time.monotonic()
    with Service(wait=False) as service:
        service.await_listening()
        opening_s = time.monotonic() - began
    for part in EARLY:
        for number in (signal.SIGTERM, signal.SIGINT) if part in (0.85, 1.5) else (signal.SIGTERM,):
            service = Service(wait=False)
            time.sleep(part * opening_s)
            service.process.send_signal(number)
            yield _ended(f"{number.name} after {part:g} of the time until it listens", service, (0,))
    service = Service()
    service.process.send_signal(signal.SIGHUP)
    yield _ended("SIGHUP, idle", service, (0,))
    for number in (signal.SIGHUP, signal.SIGTERM):
        service, asked, answers = _busy()
        service.process.send_signal(number)
        yield _ended(f"{number.name} during a request", service, (0,), 60)
        asked.join(10)
        statuses = [each.status for each in answers]
        yield Finding(f"{number.name} during a request: its answer", statuses == [200], f"{statuses}", {})
    for apart_s in (0.001, 0.05, 0.5, 2.0):
        service, _, _ = _busy()
        service.process.send_signal(signal.SIGTERM)
        time.sleep(apart_s)
        service.process.send_signal(signal.SIGHUP if apart_s == 0.05 else signal.SIGTERM)
        yield _ended(f"a second signal {apart_s} s after the first, during a request", service, (0, 1), 5)
    for apart_s in (0.001, 0.3):
        service = Service()
        service.process.send_signal(signal.SIGTERM)
        time.sleep(apart_s)
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
        yield _ended(f"a second SIGTERM {apart_s} s after the first, idle", service, (0, 1), 5)


def _busy() -> tuple[Service, threading.Thread, list[Answer]]:
    """A service that works on a large image for some seconds, the thread that waits for its answer, and the answer."""
    service = Service(shutdown_grace_s=30)
    data = jpeg.solid_jpeg(LIMIT_SIDE)
    boxes = [(20 * i, 30 * i, LIMIT_SIDE - 90 * i, LIMIT_SIDE - 70 * i) for i in range(16)]
    answers: list[Answer] = []
    asked = threading.Thread(target=lambda: answers.append(service.describe(data, boxes, None)), daemon=True)
    asked.start()
    time.sleep(0.5)
    return service, asked, answers

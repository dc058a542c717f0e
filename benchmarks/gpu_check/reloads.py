"""Another model beside the one that serves, under load: whether requests fail, and what becomes of the memory."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpcore2

from benchmarks.gpu_check.clients import Group, Load, send
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.figures import Figure

KEY = "gpu-check-administrator"
SWITCH_S = 120.0  # that a switch may take
LOOK_EVERY_S = 0.1
KEPT = 0.1  # of what the first model takes may be more afterwards: what libraries and the allocator keep


@dataclass(frozen=True)
class Switched:
    """What came of it. status: of the answer. seconds: it took. most_gb: of the device's memory meanwhile."""

    status: int
    seconds: float
    most_gb: float
    detail: str


def write_keys(folder: Path) -> Path:
    """A file of administrators' keys, with the one that is used here."""
    keys = folder / "administrators"
    keys.write_text(f"check sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n", encoding="utf-8")
    return keys


def reloads(
    given: Conditions, part: str, address: str, model: str, image: Path, memory_gb: Callable[[], float]
) -> Iterator[Figure]:
    """Switch to a second model and back, while clients send. model: its name in the service's `models_dir`."""
    before = memory_gb()
    for name, body in (("a second model", {"model": model}), ("back to the first", {"previous": True})):
        loaded: list[Load] = []
        done = threading.Event()
        clients = threading.Thread(target=_send_until, args=(done, given, address, image, loaded))
        clients.start()
        try:
            found = switched(address, body, memory_gb)
        finally:
            done.set()
            clients.join()
        failed, sent = sum(each.failed for each in loaded), sum(len(each.answers) for each in loaded)
        after = memory_gb()
        ok = found.status == 200 and not failed and sent > 0 and after <= before * (1 + KEPT)
        detail = {"status": found.status, "requests": sent, "failed": failed, "answer": found.detail}
        detail |= {"memory_before_gb": before, "memory_most_gb": found.most_gb, "memory_after_gb": after}
        yield Figure(part, f"reload under load, {name}", found.seconds, "s", ok=ok, detail=detail)


def switched(address: str, body: dict[str, object], memory_gb: Callable[[], float]) -> Switched:
    """Ask for the switch, and read the memory until it is answered."""
    answers: list[httpcore2.Response] = []
    asking = threading.Thread(target=lambda: answers.append(_post(address, body)), daemon=True)
    began, most = time.monotonic(), memory_gb()
    asking.start()
    while asking.is_alive():
        most = max(most, memory_gb())
        asking.join(LOOK_EVERY_S)
    seconds = time.monotonic() - began
    if not answers:
        return Switched(0, seconds, most, "no answer")
    text = answers[0].content.decode()
    return Switched(answers[0].status, seconds, most, "" if answers[0].status == 200 else text[:400])


def _post(address: str, body: dict[str, object]) -> httpcore2.Response:
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {KEY}",
        "X-Request-Timeout": f"{SWITCH_S:g}",
    }
    limits = {"timeout": {"read": SWITCH_S + 10}}
    url = f"{address}/v1/models/reload"
    return httpcore2.request("POST", url, headers=headers, content=json.dumps(body).encode(), extensions=limits)


def _send_until(done: threading.Event, given: Conditions, address: str, image: Path, loaded: list[Load]) -> None:
    while not done.is_set():
        loaded.append(send(address, image, [Group(4, 4 if given.is_gpu else 1)], 2.0, given.folder))

"""Clients of a running service, in a process of their own: `python -m benchmarks.gpu_check.clients PLAN.json` sends
requests in a closed loop and writes one record per request, as JSON lines."""

import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.offline import random_boxes

CONTROLS = tuple(f"w{number}" for number in range(16))  # most that a request may have by default
ANSWER_S = 120.0


@dataclass(frozen=True)
class Group:
    """So many clients, each with one request of so many regions after another.

    task: none for all outputs. more: members of the request beside these.
    """

    clients: int
    regions: int
    task: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """A request. began: `time.time()`. status: 0 without a response."""

    regions: int
    began: float
    seconds: float
    status: int


@dataclass(frozen=True)
class Load:
    """The answers of some clients over a while."""

    answers: tuple[Answered, ...]

    def of(self, regions: int) -> "Load":
        """Those of requests of so many regions."""
        return Load(tuple(each for each in self.answers if each.regions == regions))

    @property
    def failed(self) -> int:
        """How many were not answered with 200."""
        return sum(each.status != 200 for each in self.answers)

    def ms(self, percent: float) -> float:
        """A percentile of what answers took; NaN without any."""
        times = [each.seconds for each in self.answers if each.status == 200]
        return float(np.percentile(times, percent)) * 1e3 if times else float("nan")

    @property
    def regions_per_s(self) -> float:
        """Answered while clients were sending, without the first quarter, in which queues fill."""
        if not self.answers:
            return 0.0
        first, last = min(each.began for each in self.answers), max(each.began for each in self.answers)
        begin = first + (last - first) / 4
        done = [each for each in self.answers if each.status == 200 and begin <= each.began + each.seconds <= last]
        return sum(each.regions for each in done) / max(last - begin, 1e-9)


def body_of(
    image: bytes, regions: int, task: str | None, rng: random.Random, more: Mapping[str, Any] | None = None
) -> bytes:
    """A multipart form with random regions. more: members of the request beside regions, task and control words."""
    fields = {
        "regions": [{"box": [round(value, 3) for value in box]} for box in random_boxes(regions, rng)],
        "normalized": True,
        "controls": list(CONTROLS),
        **(more or {}),
    }
    request = json.dumps(fields if task is None else fields | {"task": task}).encode()
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % part
        for part in ((b"image", image), (b"request", request))
    )
    return parts + b"--b--\r\n"


HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}


def send(address: str, image: Path, groups: Sequence[Group], seconds: float, folder: Path) -> Load:
    """Run the clients to their end, in a process of their own."""
    plan = folder / f"clients{len(list(folder.glob('clients*')))}.json"
    given = {"address": address, "image": str(image), "seconds": seconds, "groups": [asdict(each) for each in groups]}
    plan.write_text(json.dumps(given), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.gpu_check.clients", str(plan)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Load(tuple(Answered(**json.loads(line)) for line in done.stdout.splitlines()))


class Client(threading.Thread):
    """One client."""

    def __init__(self, group: Group, seed: int, address: str, image: bytes, until: float) -> None:
        super().__init__(daemon=True)
        self._group, self._rng, self._image, self._until = group, random.Random(seed), image, until
        where = urlsplit(address)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)
        self.answers: list[Answered] = []

    def run(self) -> None:
        """Send until the time is over."""
        while time.time() < self._until:
            body = body_of(self._image, self._group.regions, self._group.task, self._rng, self._group.more)
            began, status = time.time(), 0
            try:
                self._connection.request("POST", "/v1/describe", body, HEADERS)
                answer = self._connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                self._connection.close()
                time.sleep(0.05)
            self.answers.append(Answered(self._group.regions, began, time.time() - began, status))


def main(plan: Path) -> None:
    """The command."""
    given = json.loads(plan.read_text(encoding="utf-8"))
    image, until = Path(given["image"]).read_bytes(), time.time() + given["seconds"]
    groups = [Group(**each) for each in given["groups"]]
    every = [group for group in groups for _ in range(group.clients)]
    clients = [Client(group, seed, given["address"], image, until) for seed, group in enumerate(every)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
        for each in client.answers:
            print(json.dumps(asdict(each)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

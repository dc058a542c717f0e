"""`python -m benchmarks.arrivals PLAN.json OUT.jsonl`: a load generator for a running service, with locust.

Open loop: requests arrive as a Poisson process, whether or not earlier ones were answered, and latency counts from the
time that a request was due. Closed loop: a number of clients, each sending one request after another. A fraction of the
requests may be poison (damaged images) or disconnect early. Meanwhile a probe polls /livez. Writes one JSON line per
request: see `Record`.
"""

import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from locust import FastHttpUser, task
from locust.env import Environment

from benchmarks.corpus import damaged, sample_images
from benchmarks.offline import random_boxes

PROBE_EVERY_S = 0.1
LAST_ANSWERS_S = 120.0  # after the last arrival


@dataclass(frozen=True)
class Plan:
    """rate: requests per second; 0 for a closed loop of `clients`. Ends after `seconds` or `requests`.

    image: a file. regions: per request. poison, disconnects: fractions of the requests.
    """

    address: str
    image: str
    regions: int = 1
    rate: float = 0.0
    clients: int = 1
    seconds: float = 1e9
    requests: int = 10**9
    poison: float = 0.0
    disconnects: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class Record:
    """kind: good, poison, disconnect, livez or hung. due: `time.time()`. status: 0 without a response. queue_ms: as
    reported by the service."""

    kind: str
    due: float
    seconds: float
    status: int
    queue_ms: float | None


def multipart(image: bytes, regions: int, rng: random.Random) -> bytes:
    """A multipart form with `regions` random regions in normalised coordinates."""
    boxes = [{"box": [round(value, 3) for value in box]} for box in random_boxes(regions, rng)]
    request = json.dumps({"regions": boxes, "normalized": True}).encode()
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % part
        for part in ((b"image", image), (b"request", request))
    )
    return parts + b"--b--\r\n"


HEADERS = {"Content-Type": "multipart/form-data; boundary=b"}


class Load:
    """Carries out a plan with one locust client and records the responses."""

    def __init__(self, plan: Plan, client: FastHttpUser) -> None:
        self._plan = plan
        self._client = client.client
        self._rng = random.Random(plan.seed)
        self._image = Path(plan.image).read_bytes()
        self._samples = list(sample_images().values())
        self._sent = 0
        self.records: list[Record] = []

    def run(self) -> None:
        """Send the load and wait for the last responses."""
        until = time.time() + self._plan.seconds
        probe = gevent.spawn(self._probe)
        pool = Pool()
        if self._plan.rate:
            due = time.time()
            while due < until and self._sent < self._plan.requests:
                gevent.sleep(max(0.0, due - time.time()))
                pool.spawn(self._one, self._next_kind(), due)
                due += self._rng.expovariate(self._plan.rate)
        else:
            for _ in range(self._plan.clients):
                pool.spawn(self._closed, until)
        pool.join(timeout=None if not self._plan.rate else LAST_ANSWERS_S)
        for _ in range(len(pool)):
            self.records.append(Record("hung", time.time(), LAST_ANSWERS_S, 0, None))
        probe.kill()

    def _closed(self, until: float) -> None:
        while time.time() < until and self._sent < self._plan.requests:
            self._one(self._next_kind(), time.time())

    def _next_kind(self) -> str:
        self._sent += 1
        chance = self._rng.random()
        if chance < self._plan.poison:
            return "poison"
        return "disconnect" if chance < self._plan.poison + self._plan.disconnects else "good"

    def _one(self, kind: str, due: float) -> None:
        image = damaged(self._rng, self._rng.choice(self._samples))[1] if kind == "poison" else self._image
        body = multipart(image, self._plan.regions, self._rng)
        if kind == "disconnect":
            self._hang_up(body)
            self.records.append(Record(kind, due, time.time() - due, 0, None))
            return
        with self._client.post("/v1/describe", data=body, headers=HEADERS, catch_response=True) as answer:
            answer.success()  # judged from the records, not by locust
            queued = [part for part in (answer.headers or {}).get("Server-Timing", "").split(", ") if "queue;" in part]
            queue_ms = float(queued[0].partition("dur=")[2]) if queued else None
            self.records.append(Record(kind, due, time.time() - due, answer.status_code or 0, queue_ms))

    def _hang_up(self, body: bytes) -> None:
        where = urlsplit(self._plan.address)
        with socket.create_connection((where.hostname, where.port)) as connection:
            head = f"POST /v1/describe HTTP/1.1\r\nHost: x\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            gevent.sleep(self._rng.uniform(0, 0.05))

    def _probe(self) -> None:
        while True:
            began = time.time()
            with self._client.get("/livez", catch_response=True) as answer:
                answer.success()
                self.records.append(Record("livez", began, time.time() - began, answer.status_code or 0, None))
            gevent.sleep(PROBE_EVERY_S)


def carry_out(plan: Plan) -> list[Record]:
    """Run the plan under locust."""
    done = Event()
    loads: list[Load] = []

    class Arrivals(FastHttpUser):
        host = plan.address
        concurrency = 10_000
        network_timeout = connection_timeout = LAST_ANSWERS_S

        @task
        def arrive(self) -> None:
            loads.append(Load(plan, self))
            loads[0].run()
            done.set()
            gevent.sleep(1e6)

    runner = Environment(user_classes=[Arrivals]).create_local_runner()
    runner.start(1, spawn_rate=1)
    done.wait()
    runner.quit()
    return loads[0].records


def main() -> None:
    """The command."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    lines = [json.dumps(asdict(record)) for record in carry_out(plan)]
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

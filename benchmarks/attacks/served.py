"""A service process under attack: started, asked, measured together with its child processes, and ended.

CPU seconds and memory are those of the whole process tree: workers count, ended ones too. Memory is the proportional
set size, in which pages that several processes share count once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import psutil  # type: ignore[import-untyped]

from benchmarks.attacks.images.png import solid_png

ROOT = Path(__file__).resolve().parents[2]
MODEL_SERVICE = ("dynrefer.service.cli", "serve")
FAKE_SERVICE = ("tests.serve_fake",)  # a predictor that does nothing, so that image work and HTTP alone are measured

START_S = 120.0
THUMBNAIL = solid_png(64, 64)
THUMBNAIL_BOX = (2.0, 2.0, 30.0, 30.0)
BOUNDARY = b"attack"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """status: 0 where no answer came within the time limit, or the connection was cut. seconds: until it was read."""

    status: int
    seconds: float
    body: bytes


class Client:
    """Asks a service; every request has a connection of its own. May be used by several threads."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 90.0,
    ) -> Answer:
        """Send one request; never raises."""
        began = time.perf_counter()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, time.perf_counter() - began, text)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, time.perf_counter() - began, repr(error).encode())
        finally:
            connection.close()

    def get(self, path: str, timeout_s: float = 10.0) -> Answer:
        """GET without headers."""
        return self.request("GET", path, timeout_s=timeout_s)

    def describe(
        self,
        image: bytes = THUMBNAIL,
        boxes: Sequence[Sequence[float]] = (THUMBNAIL_BOX,),
        task: str | Sequence[str] | None = "tags",
        *,
        deadline_s: float | None = None,
        key: str | None = None,
        timeout_s: float = 90.0,
    ) -> Answer:
        """One request for regions of an image. boxes: xyxy, pixels. deadline_s: asked of the service. key: API key."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
        if deadline_s is not None:
            headers["X-Request-Timeout"] = str(deadline_s)
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return self.request("POST", "/v1/describe", describe_form(image, boxes, task), headers, timeout_s)

    def post_json(self, body: bytes) -> Answer:
        """POST bytes as the JSON of a describe request."""
        return self.request("POST", "/v1/describe", body, {"Content-Type": "application/json"})


def describe_form(image: bytes, boxes: Sequence[Sequence[float]], task: str | Sequence[str] | None) -> bytes:
    """A multipart form with the boundary BOUNDARY."""
    request = json.dumps({"regions": [{"box": list(box)} for box in boxes], "task": task}).encode()
    parts = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % (BOUNDARY, name, content)
        for name, content in ((b"request", request), (b"image", image))
    )
    return parts + b"--%s--\r\n" % BOUNDARY


class Service(Client):
    """A service process of this checkout, on a free port of 127.0.0.1; killed, tree and all, at the end of a `with`.

    settings: of the service, by their names in service/settings.py. command: module and arguments. open_files: its
    limit on file descriptors. stderr: where its log goes; by default a file, for `log` to read, namely `log_file` or a
    temporary one. checkout: whose code it is. wait: until ready.
    Raises SystemExit where it ends, or is not ready in time.
    """

    def __init__(
        self,
        command: Sequence[str] = MODEL_SERVICE,
        *,
        environment: Mapping[str, str] | None = None,
        open_files: int | None = None,
        stderr: int | None = None,
        log_file: Path | None = None,
        checkout: Path = ROOT,
        wait: bool = True,
        **settings: object,
    ) -> None:
        self._log = log_file or Path(tempfile.mkstemp(suffix=".log")[1])
        variables = {"DYNREFER_HOST": "127.0.0.1", "DYNREFER_PORT": "0"}
        variables |= {f"DYNREFER_{name.upper()}": str(value) for name, value in settings.items()}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=checkout,
                env={**os.environ, **variables, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log if stderr is None else stderr,
                preexec_fn=None if open_files is None else _file_limit(open_files),
            )
        self._root = psutil.Process(self.process.pid)
        super().__init__("127.0.0.1", 0)
        if wait:
            self.await_listening()
            self.await_ready()

    def await_listening(self) -> None:
        """Until its log names the address. Not for a service whose log goes elsewhere."""
        self._await(self._find_port, "did not listen")

    def await_ready(self) -> None:
        """Until /readyz is 200."""
        self._await(lambda: self.get("/readyz", 5.0).status == 200, "is not ready")

    def _find_port(self) -> bool:
        found = re.search(r"Listening on http://[^\s]*:(\d+)", self.log())
        self.port = int(found[1]) if found else 0
        return bool(found)

    def _await(self, done: Callable[[], bool], otherwise: str) -> None:
        until = time.monotonic() + START_S
        while not done():
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise SystemExit(f"attacks: the service {otherwise}: {self.log()[-500:]}")
            time.sleep(0.02)

    def log(self) -> str:
        """All that it wrote to standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def tree(self) -> list[psutil.Process]:
        """The process and its descendants; only itself where it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return [self._root]

    def cpu_s(self) -> float:
        """CPU seconds of the tree so far, ended children included."""
        return _total(self.tree(), lambda each: sum(each.cpu_times()[:4]))

    def memory_gb(self) -> float:
        """What the tree holds, in units of 10^9 bytes."""
        return _total(self.tree(), lambda each: each.memory_full_info().pss) / 1e9

    def threads(self) -> int:
        """Threads of the tree."""
        return int(_total(self.tree(), lambda each: each.num_threads()))

    def settle(self, limit_s: float) -> bool:
        """Wait until a second passes with less than 0.1 CPU seconds; False where that takes longer than limit_s."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            before = self.cpu_s()
            time.sleep(1)
            if self.cpu_s() - before < 0.1:
                return True
        return False

    def stop(self) -> None:
        """Kill what still runs of the tree."""
        for each in reversed(self.tree()) if self.process.poll() is None else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.unlink(missing_ok=True)


def _file_limit(count: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def _total(processes: Sequence[psutil.Process], value: Callable[[psutil.Process], float]) -> float:
    """The sum over the processes that have not ended meanwhile."""
    total = 0.0
    for each in processes:
        try:
            total += value(each)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return total


class Watch(Generic[_T]):
    """Calls `ask` again and again in a thread while a `with` block runs; `seen` has what it returned."""

    def __init__(self, ask: Callable[[], _T], pause_s: float) -> None:
        self.seen: list[_T] = []
        self._ask, self._pause_s = ask, pause_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            self.seen.append(self._ask())
            if self._over.wait(self._pause_s):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def at_once(calls: Sequence[Callable[[], _T]]) -> list[_T]:
    """Run calls in a thread each; their results in order."""
    results: list[Any] = [None] * len(calls)

    def run(index: int) -> None:
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return results


def longest(answers: Sequence[Answer]) -> float:
    """Seconds of the slowest answer; 0 without any."""
    return max((each.seconds for each in answers), default=0.0)


def percentile_ms(answers: Sequence[Answer], percent: float) -> float:
    """A percentile of the answers' times, in milliseconds; 0 without any."""
    times = sorted(each.seconds * 1e3 for each in answers)
    return times[min(len(times) - 1, int(len(times) * percent / 100))] if times else 0.0

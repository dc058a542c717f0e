"""`python -m tests.service.scale.ray.cluster_process SETTINGS`: a process in a cluster, to be sent expressions.

SETTINGS: the fields of `ClusterSettings` as JSON. It prints one line of JSON when the cluster is there, and one per
line of Python on standard input. `Driven` is such a process seen from outside.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.repository import ROOT

STORE_BYTES = 90_000_000
LOG_FORMAT = "ours %(name)s %(message)s"
PATIENCE_S = 30.0
TOKEN = "RAY_AUTH_TOKEN"


class Driven:
    """The process, and what is known of it from /proc."""

    def __init__(self, environment: Mapping[str, str], prefix: tuple[str, ...] = (), **settings: object) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", __name__, json.dumps({"cpus": 2, "gpus": 0} | settings)],
            env={**{name: value for name, value in os.environ.items() if name != "HOME"}, **environment},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.read() == "ready"

    def read(self) -> Any:
        """The next answer; what else stands on standard output is a failure."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def __call__(self, code: str) -> Any:
        """The value of an expression there."""
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return self.read()

    def tree(self) -> dict[int, str]:
        """Process id -> command line or title, of the process and of all that it has started."""
        return {pid: title(pid) for pid in descendants(self.process.pid)}

    def of(self, name: str) -> int:
        """The id of the one process of Ray with this in its command line."""
        (found,) = (pid for pid, line in self.tree().items() if name in line.split(" --")[0])
        return found

    def token(self) -> str:
        """What the cluster's processes have in their environment."""
        variables = Path(f"/proc/{self.of('raylet/raylet')}/environ").read_text(encoding="utf-8").split("\0")
        return dict(line.split("=", 1) for line in variables if "=" in line)[TOKEN]

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it has written to standard error, after the end of its input."""
        _, written = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def title(pid: int) -> str:
    """The command line; empty of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def descendants(root: int) -> list[int]:
    """Ids of the process and of all that it has started, directly or not."""
    parents: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = each.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(each.parent.name)] = int(after_name[1])
    found = [root]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def running(pids: list[int]) -> list[str]:
    """Those that have not ended."""
    return [line for pid in pids if (line := title(pid))]


def wait_until(true: Any) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    from dynrefer.service.scale.ray.cluster import ClusterSettings, alive, cluster

    logging.basicConfig(format=LOG_FORMAT)
    with cluster(ClusterSettings(**json.loads(sys.argv[1]))):
        import ray

        def task(function: Any) -> Any:
            return ray.get(ray.remote(function).remote())

        known = {"ray": ray, "alive": alive, "os": os, "task": task, "sys": sys}
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(eval(line, known)), flush=True)


if __name__ == "__main__":
    main()

"""The services that are compared: the plain one, and replicas on Ray Serve behind the same edge."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.attacks.served import ROOT, Service
from benchmarks.scale_out.processes import replicas

ADMIN_KEY = "administrator-of-the-benchmark"
# One thread in every process, so that one replica and the plain service have the same of the two cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class System:
    """What is started. replicas: 0 for the plain service. most: replicas up to which it grows by itself, if not None.
    settings: more of the service's, by name. environment: more variables."""

    name: str
    replicas: int = 0
    most: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def of_engine(self) -> dict[str, object]:
        """The settings that say how it is spread."""
        if not self.replicas:
            return {}
        found: dict[str, object] = {"engine": "ray", "replicas": self.replicas, "replica_cpus": 1}
        found["object_store_bytes"] = 200_000_000
        if self.most is not None:
            found |= {"min_replicas": self.replicas, "max_replicas": self.most}
        return found


PLAIN = System("plain")
ONE = System("ray, 1 replica", 1)
TWO = System("ray, 2 replicas", 2)


class Served(Service):
    """A running system; ready when made. start_s: from the start of its process until /readyz was 200."""

    def __init__(
        self,
        system: System,
        *,
        log_file: Path | None = None,
        models_dir: Path | None = None,
        checkout: Path = ROOT,
    ) -> None:
        began = time.monotonic()
        settings: dict[str, object] = {"device": "cpu", "log_format": "json", **system.of_engine, **system.settings}
        if models_dir is not None:
            settings |= {"models_dir": models_dir}
        environment = {**ONE_THREAD, **system.environment, "DYNREFER_ADMIN_KEYS": ADMIN_KEY}
        environment |= {"PYTHONPATH": str(checkout)} if checkout != ROOT else {}
        super().__init__(environment=environment, log_file=log_file, checkout=checkout, **settings)
        self.system = system
        self.start_s = time.monotonic() - began

    @property
    def edge(self) -> int:
        """pid of the process that listens."""
        return int(self.process.pid)

    def replicas(self) -> list[psutil.Process]:
        """The processes that hold the model; the service itself where it is plain."""
        return replicas(self.edge) if self.system.replicas else [psutil.Process(self.edge)]

    def replicas_answering(self) -> int:
        """How many the edge has heard of in the last seconds; 1 where the service is plain and there."""
        if not self.system.replicas:
            return int(self.get("/livez").status == 200)
        return int(self.metric("dynrefer_replicas", 'state="answering"'))

    def reload(self, model: str, timeout_s: float = 300.0) -> int:
        """Let another model serve; the status of the answer, which comes when it does."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"}
        body = json.dumps({"model": model}).encode()
        return self.request("POST", "/v1/models/reload", body, headers, timeout_s).status

    def metric(self, name: str, label: str = "") -> float:
        """The sum over the labels of a metric, or those with `label`; 0 where it has none."""
        text = self.get("/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")) and label in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def terminate(self, limit_s: float = 60.0) -> tuple[int | None, float]:
        """SIGTERM; its exit code, None where it had to be killed, and the seconds until it ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code: int | None
        try:
            code = self.process.wait(limit_s)
        except Exception:  # subprocess.TimeoutExpired: reported, not raised
            code = None
        return code, time.monotonic() - began


def logged(text: str) -> list[dict[str, Any]]:
    """The lines of a JSON log that are whole."""
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found

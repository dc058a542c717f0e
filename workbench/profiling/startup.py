"""From the start of a process to a ready service, and where the time goes.

Two processes per round: `dynrefer serve` until its log says that it is ready and /readyz returns 200; and one that
imports, loads and warms up the model step by step. The cost of the weights is the time to read their file again, from
the page cache. /readyz is not polled before the log line, because answering would slow the loading.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dynrefer.model.errors import ModelError
from dynrefer.model.loading import EMBEDDED
from dynrefer.workbench.profiling.machine import heading, provenance

TIMEOUT_S = 120.0
POLL_S = 0.005
READY = "ready: model"  # in a line of the service's log
# Bytecode is kept whatever this shell says: a warm start is not the first one.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
LOG_SETTINGS = {"DYNREFER_LOG_LEVEL": "info", "DYNREFER_LOG_FORMAT": "text"}
STEPS = """
import json, resource, sys, time
began = time.perf_counter()
import torch
torch_s = time.perf_counter()
from dynrefer import DynRefer
import dynrefer.model.predictor
import_s = time.perf_counter()
loaded = DynRefer.load(sys.argv[1], device="cpu")
load_s = time.perf_counter()
import numpy
image = numpy.zeros((64, 64, 3), numpy.uint8)
loaded.describe(image, [(16, 16, 48, 48)])
warm_s = time.perf_counter()
print(json.dumps({"import torch": torch_s - began, "import model": import_s - torch_s, "load": load_s - import_s,
                  "first region": warm_s - load_s}))
"""


def measure_start(model: str, repeats: int) -> tuple[dict[str, Any], str]:
    """Medians in seconds: the report and its table. Raises `ModelError`, with the service's last log line, if it does
    not start."""
    ready, steps = [], []
    for _ in range(repeats):
        ready.append(_seconds_to_ready(model))
        done = subprocess.run(
            [sys.executable, "-c", STEPS, model], capture_output=True, text=True, check=True, env=ENVIRONMENT
        )
        steps.append(json.loads(done.stdout))
    medians = {name: round(statistics.median(one[name] for one in steps), 3) for name in steps[0]}
    reading = round(_seconds_to_read(model), 3)
    seconds = round(statistics.median(ready), 3)
    report = {
        **provenance(),
        "model": model,
        "ready_seconds": seconds,
        "reading_weights_seconds": reading,
        "beyond_reading_seconds": round(seconds - reading, 3),
        "steps": medians,
    }
    lines = [heading(report), "", "| | s |", "|---|---|", f"| start to ready | {seconds} |"]
    lines += [f"| reading the weights, included above | {reading} |"]
    lines += [f"| by itself: {name} | {value} |" for name, value in medians.items()]
    return report, "\n".join(lines)


def _seconds_to_ready(model: str) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "dynrefer.service.cli",
        "serve",
        "--model",
        model,
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | LOG_SETTINGS
    ) as process:
        assert process.stderr is not None
        killer = threading.Timer(TIMEOUT_S, process.kill)
        killer.start()
        line = ""
        try:
            for line in process.stderr:
                if READY in line:
                    break
            while process.poll() is None:
                if _ready(port):
                    return time.perf_counter() - started
                time.sleep(POLL_S)
        finally:
            killer.cancel()
            process.terminate()
    if time.perf_counter() - started >= TIMEOUT_S:
        raise ModelError(f"the service was not ready after {TIMEOUT_S:g} s; its last log line was: {line.strip()}")
    raise ModelError(f"the service ended with code {process.returncode} before it was ready: {line.strip()}")


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _seconds_to_read(model: str) -> float:
    directory = EMBEDDED if model == "embedded" else Path(model)
    started = time.perf_counter()
    for path in directory.glob("*.safetensors"):
        path.read_bytes()
    return time.perf_counter() - started

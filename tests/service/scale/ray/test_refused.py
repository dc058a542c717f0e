"""`dynrefer serve --engine ray` with settings that cannot be: one sentence, exit code 2, and nothing left behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.service.scale.ray.cluster_process import wait_until
from tests.service.server.test_process import PATIENCE_S

pytestmark = pytest.mark.server

MARK = "DYNREFER_KEY"  # of another command: it marks the processes of a run


def left(mark: str) -> list[str]:
    """The processes that were started with the mark in their environment, and live."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (each / "environ").read_bytes():
                found.append((each / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--replicas", "0"), "--replicas '0' is invalid: input should be greater than or equal to 1"),
        (("--replica-gpus", "1.5"), "replica_gpus 1.5 cannot be had: a replica takes whole GPUs"),
        (("--replica-gpus", "64"), "replicas 1 with replica_gpus 64 need more GPUs than there are: the Ray cluster"),
    ],
)
def test_settings_that_cannot_be(flags: tuple[str, ...], sentence: str) -> None:
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as folder:  # pytest's own is too long for a socket's path
        command = [sys.executable, "-m", "dynrefer.service.cli", "serve", "--engine", "ray", "--port", "0", *flags]
        environment = {**os.environ, "TMPDIR": folder, MARK: folder}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.startswith(f"dynrefer: {sentence}") and done.stderr.count("\n") == 1, done.stderr
        assert wait_until(lambda: not left(folder)), left(folder)
        assert wait_until(lambda: not list(Path(folder).iterdir()))

"""CVAT's programs in their environment, a service process with the embedded model, and a fake of CVAT's server."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.service.integrations.cvat.fake_server import TOKEN, FakeCvat, serving
from tests.service.integrations.environments import python_with
from tests.service.server.test_process import Server, running

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="package")
def service() -> Iterator[Server]:
    with running("dynrefer.service.cli", "serve", DYNREFER_API_KEYS="sesame") as server:
        server.await_ready()
        yield server


@pytest.fixture
def run(service: Server, fake: FakeCvat, tmp_path: Path) -> Iterator[Run]:
    """Runs a module in CVAT's environment, which knows the service and the fake."""
    with serving(fake) as cvat:

        def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
            known = {
                "HOME": str(tmp_path),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "CVAT_ACCESS_TOKEN": TOKEN,
                "DYNREFER_SERVER": service.address,
                "DYNREFER_KEY": "sesame",
            }
            module, *rest = command
            program = [python_with("cvat"), "-m", module, "--server-host", cvat, *rest]
            return subprocess.run(program, capture_output=True, text=True, env=known | environment, timeout=300)

        yield run

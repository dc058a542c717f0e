"""What processes that decode strangers' images know of the service's environment."""

import asyncio
from pathlib import Path

import pytest

from dynrefer.service.workers.fork_server import ForkServer
from dynrefer.service.workers.worker import WorkerLimits

SECRETS = {
    "DYNREFER_API_KEYS": "secret-of-clients",
    "DYNREFER_ADMIN_KEYS": "secret-of-administrators",
    "DYNREFER_LABEL_STUDIO_TOKEN": "secret-of-label-studio",
    "DYNREFER_SHARED_CACHE": "redis://user:secret-of-redis@127.0.0.1/0",
    "dynrefer_key": "secret-of-a-command",
    "RAY_AUTH_TOKEN": "secret-of-ray",
    "SOME_CLOUD_PASSWORD": "secret-of-the-machine",
}


def test_a_worker_and_what_forks_it_have_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def environments() -> list[bytes]:
        server = ForkServer()
        worker, sock = await server.fork(WorkerLimits(10.0, 1_000_000, 0, 0))
        assert server._process is not None
        found = [Path(f"/proc/{process}/environ").read_bytes() for process in (server._process.pid, worker)]
        sock.close()
        await server.stop()
        return found

    for found in asyncio.run(environments()):
        assert b"secret" not in found and b"LC_ALL=C.UTF-8" in found

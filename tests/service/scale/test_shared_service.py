"""Two services that share representations: the same answers, whatever becomes of what they share."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.repository import DOCS
from tests.service.conftest import in_base64
from tests.service.scale.redis_server import PATIENCE_S, needs_redis, running_redis
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

IMAGE = {"base64": in_base64((DOCS / "scene.png").read_bytes())}
BOXES = [[41, 2, 117, 82], [50, 89, 105, 138], [57, 148, 122, 229]]
ROUNDS = 6


def request(shift: int = 0) -> dict[str, Any]:
    """shift: pixels, for regions that are others."""
    boxes = [[x + shift, y + shift, right, bottom] for x, y, right, bottom in BOXES]
    return {"image": IMAGE, "regions": [{"box": box} for box in boxes], "task": ["tags", "caption"]}


def regions(answer: dict[str, Any]) -> Any:
    return [{name: value for name, value in each.items() if "ms" not in name} for each in answer["regions"]]


def metric(server: Server, name: str) -> float:
    lines = server.get("/metrics")[1].decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"dynrefer_shared_cache_{name} ")).split()[1])


@needs_redis
def test_two_services_share_and_go_on_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret that both of them have")
    with running_redis(tmp_path) as redis:
        options = ("--device", "cpu", "--shared-cache", redis.url, "--shared-cache-secret-file", str(secret))
        options += ("--shared-cache-timeout-ms", "500")  # of a busy machine
        with (
            running("dynrefer.service.cli", "serve", *options) as first,
            running("dynrefer.service.cli", "serve", *options) as second,
            running("dynrefer.service.cli", "serve", "--device", "cpu") as plain,
        ):
            for server in (first, second, plain):
                server.await_ready()
            expected = [regions(plain.describe(request(shift))[1]) for shift in range(ROUNDS)]
            assert regions(first.describe(request())[1]) == expected[0]
            until = time.monotonic() + PATIENCE_S
            while metric(first, "writes_total") < len(BOXES):
                assert time.monotonic() < until
                time.sleep(0.05)
            misses = metric(second, "misses_total")
            assert regions(second.describe(request())[1]) == expected[0]
            assert metric(second, "misses_total") == misses and metric(second, "hits_total") >= len(BOXES)
            killer = threading.Timer(0.3, redis.kill)
            killer.start()
            for shift in range(ROUNDS):
                for server in (first, second):
                    status, answer = server.describe(request(shift))
                    assert status == 200 and regions(answer) == expected[shift]
            killer.join()
            assert metric(second, 'up{operation="read"}') in (0.0, 1.0)
        said = [line for line in second.lines if "the shared cache is not used" in line]
        assert len(said) <= 1

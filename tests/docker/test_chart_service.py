"""A real server process with the variables that the chart gives its container: what Kubernetes asks it is answered."""

import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dynrefer.service.server.auth import new_key
from tests.docker.rendered_chart import VALUES, container, environment, of_kind, render
from tests.faults import Fault, box_of
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_drain import await_line, whole_answer
from tests.service.server.test_process import Server, request_bytes, running

pytestmark = pytest.mark.server

BY_NAME = {path.name.removesuffix("-values.yaml"): path for path in VALUES}
# Of this machine instead of a pod: free ports, and no address that others reach.
HERE = {"DYNREFER_HOST": "127.0.0.1", "DYNREFER_PORT": "0", "DYNREFER_METRICS_HOST": "127.0.0.1"}
FREE_METRICS_PORT = {"DYNREFER_METRICS_PORT": "0"}


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def metrics_of(server: Server) -> str:
    """The address of the metrics, which the server has printed."""
    (found,) = re.findall(r"Metrics on (\S+)", "".join(server.lines))
    return str(found)


def test_probes_need_no_key_and_metrics_have_a_port_without_one(tmp_path: Path) -> None:
    documents = render(BY_NAME["keys"])
    variables = {**environment(container(documents)), **HERE, **FREE_METRICS_PORT}
    (secret,) = of_kind(documents, "Secret")
    key, line = new_key("carol")
    keys = tmp_path / "keys"
    keys.write_text(secret["stringData"]["keys"] + line + "\n", encoding="utf-8")
    administrators = tmp_path / "administrators"
    administrators.write_text(new_key("boss")[1] + "\n", encoding="utf-8")
    variables |= {"DYNREFER_API_KEYS_FILE": str(keys), "DYNREFER_ADMIN_KEYS_FILE": str(administrators)}
    with running("tests.serve_fake", **variables) as server:
        server.await_ready()
        probes = {
            container(documents)[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
        }
        assert {status_of(server.address + path) for path in probes} == {200}
        assert status_of(metrics_of(server)) == 200
        assert status_of(server.address + "/metrics") == 401
        assert status_of(server.address + "/v1/models") == 401
        request = urllib.request.Request(server.address + "/v1/models", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200


def test_a_pod_that_stops_lets_the_longest_request_finish_and_refuses_the_next_with_a_time() -> None:
    """What a client sees whose connection still leads to a pod that has got SIGTERM, after `preStop`."""
    document = {"image": {"base64": in_base64(image_bytes())}, "regions": [{"box": box_of(Fault.SLOW)}]}
    variables = {**environment(container(render(BY_NAME["default"]))), **HERE, **FREE_METRICS_PORT}
    with running("tests.serve_fake", FAKE_SLOW_SECONDS="3", **variables) as server:
        server.await_ready()
        running_one, kept_alive = server.send(document), server.connect()
        kept_alive.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in kept_alive.recv(4_096)
        with urllib.request.urlopen(metrics_of(server), timeout=60) as answer:
            assert b"dynrefer_queue_regions" in answer.read()
        server.process.send_signal(signal.SIGTERM)
        await_line(server, "/readyz", "shutting down")
        kept_alive.sendall(request_bytes(document))
        status, head = whole_answer(kept_alive)
        assert status == 503 and b"retry-after: " in head and b"connection: close" in head
        assert whole_answer(running_one)[0] == 200
        assert server.process.wait(60) == 0

"""Faults in real server processes: every request gets a response, only the failing one an error, and a process that can
no longer serve reports not ready and exits."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults import Fault, box_of
from tests.service.conftest import image_bytes, in_base64
from tests.service.server.test_process import PATIENCE_S, Server, running

pytestmark = pytest.mark.server

IMAGE = {"base64": in_base64(image_bytes())}
GOOD = [4.0, 4.0, 40.0, 40.0]


def request_of(*boxes: Sequence[float]) -> dict[str, Any]:
    return {"image": IMAGE, "regions": [{"box": list(box)} for box in boxes]}


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the rest of the batch."""
    regions = [{name: value for name, value in each.items() if name != "timings_ms"} for each in answer["regions"]]
    return {**answer, "regions": regions, "timings_ms": None, "id": None}


def metric(server: Server, name: str) -> float:
    for line in server.get("/metrics")[1].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(name)


def await_metric(server: Server, name: str, value: float) -> None:
    until = time.monotonic() + PATIENCE_S
    while metric(server, name) != value:
        assert time.monotonic() < until, (name, metric(server, name))
        time.sleep(0.01)


WHOLE: dict[str, str] = {}
CONTINUOUS = {"FAKE_CONTINUOUS": "1"}
both_ways = pytest.mark.parametrize("batching", [WHOLE, CONTINUOUS], ids=["whole", "continuous"])


@pytest.fixture(scope="module", params=[WHOLE, CONTINUOUS], ids=["whole", "continuous"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for the faults that it survives."""
    with running("tests.serve_fake", DYNREFER_MAX_BATCH_REGIONS="8", **request.param) as server:
        server.await_ready()
        yield server
        assert server.end() == 0


@pytest.fixture(scope="module")
def clean(server: Server) -> dict[str, Any]:
    """The response to a request that no fault affects."""
    status, answer = server.describe(request_of(GOOD))
    assert status == 200
    return without_times(answer)


@contextmanager
def occupied(server: Server) -> Iterator[None]:
    """Inside, the device is busy, so that requests gather in the queue."""
    batches = metric(server, "dynrefer_batch_regions_count")
    with server.send(request_of(box_of(Fault.SLOW))):
        await_metric(server, "dynrefer_batch_regions_count", batches + 1)
        yield


def in_one_batch(server: Server, *requests: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Send all requests so that they end up in one batch, where there are whole batches; their responses."""
    if server.environment.keys() >= CONTINUOUS.keys():
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(server.describe, requests))
    regions = sum(len(each["regions"]) for each in requests)
    with ThreadPoolExecutor(len(requests)) as pool:
        with occupied(server):
            futures = [pool.submit(server.describe, each) for each in requests]
            await_metric(server, "dynrefer_queue_regions", regions)
        return [each.result(PATIENCE_S) for each in futures]


@pytest.mark.parametrize("fault", [Fault.POISON, Fault.NAN, Fault.QUERY, Fault.TOO_BIG])
def test_one_bad_region_fails_alone(server: Server, clean: dict[str, Any], fault: Fault) -> None:
    answers = in_one_batch(server, *[request_of(GOOD)] * 3, request_of(GOOD, box_of(fault)), *[request_of(GOOD)] * 3)
    status, problem = answers.pop(3)
    assert [without_times(answer) for _, answer in answers] == [clean] * 6
    assert status == {Fault.QUERY: 422, Fault.TOO_BIG: 503}.get(fault, 500)
    assert [each["pointer"] for each in problem["errors"]] == ["/regions/1/box" if status == 422 else "/regions/1"]
    assert "secret" not in json.dumps(problem)
    assert server.get("/readyz")[0] == 200


def test_a_batch_that_is_too_large_is_split(server: Server, clean: dict[str, Any]) -> None:
    before = metric(server, "dynrefer_device_oom_total")
    answers = in_one_batch(server, request_of(GOOD), request_of(GOOD, box_of(Fault.CROWD), GOOD, GOOD))
    assert [status for status, _ in answers] == [200] * 2
    assert without_times(answers[0][1]) == clean
    assert metric(server, "dynrefer_device_oom_total") > before
    assert metric(server, "dynrefer_batch_cap_regions") < 8


def test_the_deadline_ends_the_work_too(server: Server, clean: dict[str, Any]) -> None:
    began = time.monotonic()
    status, problem = server.describe(request_of(box_of(Fault.SLOW)), **{"X-Request-Timeout": "0.3"})
    assert status == 504 and problem["title"] == "The deadline passed"
    assert without_times(server.describe(request_of(GOOD))[1]) == clean
    assert time.monotonic() - began < 30  # the slow batch would have taken a minute


def test_a_client_that_disconnects_ends_its_work(server: Server, clean: dict[str, Any]) -> None:
    began = time.monotonic()
    with occupied(server):
        pass
    assert without_times(server.describe(request_of(GOOD))[1]) == clean
    assert time.monotonic() - began < 30
    await_outcome(server, "disconnected")


def await_outcome(server: Server, outcome: str) -> None:
    wanted = f'dynrefer_requests_total{{outcome="{outcome}",route="/v1/describe",surface="api"}}'
    until = time.monotonic() + PATIENCE_S
    while wanted not in server.get("/metrics")[1].decode():
        assert time.monotonic() < until
        time.sleep(0.01)


@both_ways
def test_one_request_of_many_regions_does_not_starve_a_small_one(batching: dict[str, str]) -> None:
    limits = {"DYNREFER_MAX_REGIONS": "200", "DYNREFER_MAX_BATCH_REGIONS": "4"}
    with running("tests.serve_fake", FAKE_RUN_SECONDS="0.1", **limits, **batching) as server:
        server.await_ready()
        with ThreadPoolExecutor(1) as pool:
            large = pool.submit(server.describe, request_of(*[GOOD] * 200))
            until = time.monotonic() + PATIENCE_S
            while metric(server, "dynrefer_queue_regions") == 0:
                assert time.monotonic() < until
            assert server.describe(request_of(GOOD))[0] == 200
            assert not large.done()
            assert large.result(PATIENCE_S)[0] == 200


@both_ways
def test_overload_is_refused_with_a_time(batching: dict[str, str]) -> None:
    limits = {"DYNREFER_MAX_QUEUE_REGIONS": "4", "DYNREFER_MAX_REGIONS": "4", "DYNREFER_MAX_BATCH_REGIONS": "2"}
    with running("tests.serve_fake", FAKE_RUN_SECONDS="0.2", **limits, **batching) as server:
        server.await_ready()
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: server.describe(request_of(GOOD)), range(24)))
        statuses = {status for status, _ in answers}
        assert statuses == {200, 429}
        assert server.retry_after and all(1 <= seconds <= 10 for seconds in server.retry_after)
        assert server.get("/readyz")[0] == 200
        assert server.end() == 0


def pending(pool: ThreadPoolExecutor, server: Server, count: int) -> list[Future[tuple[int, dict[str, Any]]]]:
    """Requests that wait behind what the device is doing."""
    before = metric(server, "dynrefer_queue_regions")
    futures = [pool.submit(server.describe, request_of(GOOD)) for _ in range(count)]
    await_metric(server, "dynrefer_queue_regions", before + count)
    return futures


def became_unready(server: Server, within_s: float) -> str:
    until = time.monotonic() + within_s
    while (found := server.get("/readyz"))[0] == 200:
        assert time.monotonic() < until
        time.sleep(0.02)
    return str(json.loads(found[1])["detail"])


@pytest.mark.parametrize("fault", [Fault.DEATH, Fault.LOST])
@both_ways
def test_a_dead_device_thread_is_noticed_and_ends_the_process(batching: dict[str, str], fault: Fault) -> None:
    limits = {"DYNREFER_DEVICE_GRACE_S": "4", "DYNREFER_MAX_BATCH_REGIONS": "1"}
    with running("tests.serve_fake", FAKE_RUN_SECONDS="0.5", **limits, **batching) as server:
        server.await_ready()
        with ThreadPoolExecutor(4) as pool:
            fatal = pool.submit(server.describe, request_of(GOOD, box_of(fault)))
            waiting = [pool.submit(server.describe, request_of(GOOD, GOOD)) for _ in range(3)]
            assert fatal.result(PATIENCE_S)[0] == 503
            assert {each.result(PATIENCE_S)[0] for each in waiting} <= {200, 503}
        assert "without its device" in became_unready(server, within_s=1)
        assert server.get("/livez")[0] == 200
        assert server.describe(request_of(GOOD))[0] == 503
        assert server.process.wait(PATIENCE_S) == 3
        assert server.last_line() == "dynrefer: the device is lost; see the log.\n"


@both_ways
def test_a_stuck_device_is_noticed_and_ends_the_process(batching: dict[str, str]) -> None:
    limits = {"DYNREFER_DEVICE_STALL_S": "0.5", "DYNREFER_DEVICE_GRACE_S": "4"}
    with running("tests.serve_fake", **limits, **batching) as server:
        server.await_ready()
        with ThreadPoolExecutor(4) as pool:
            stuck = pool.submit(server.describe, request_of(box_of(Fault.HANG)))
            await_metric(server, "dynrefer_batch_regions_count", 1)
            waiting = pending(pool, server, 3)
            assert [each.result(PATIENCE_S)[0] for each in (stuck, *waiting)] == [503] * 4
        assert "to answer again" in became_unready(server, within_s=1)
        assert server.describe(request_of(GOOD))[0] == 503
        assert server.process.wait(PATIENCE_S) == 3


@both_ways
def test_a_device_that_was_stuck_for_a_while_is_ready_again(batching: dict[str, str]) -> None:
    with running("tests.serve_fake", DYNREFER_DEVICE_STALL_S="0.3", FAKE_HANG_SECONDS="1.5", **batching) as server:
        server.await_ready()
        assert server.describe(request_of(box_of(Fault.HANG)))[0] == 503
        server.await_ready()
        assert server.describe(request_of(GOOD))[0] == 200
        assert server.end() == 0


@both_ways
def test_a_device_without_any_memory_is_noticed_and_ends_the_process(batching: dict[str, str]) -> None:
    with running("tests.serve_fake", DYNREFER_DEVICE_GRACE_S="4", **batching) as server:
        server.await_ready()
        assert server.describe(request_of(box_of(Fault.STARVE)))[0] == 503
        assert "to have memory again" in became_unready(server, within_s=1)
        assert server.process.wait(PATIENCE_S) == 3


def test_many_slow_clients_do_not_block_others() -> None:
    with running("tests.serve_fake", DYNREFER_HEADER_TIMEOUT_S="2") as server:
        server.await_ready()
        slow = [server.connect() for _ in range(200)]
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.2):
                for each in slow:
                    try:
                        each.sendall(b"G")
                    except OSError:
                        return  # closed by the server, as it should be

        feeder = threading.Thread(target=trickle)
        feeder.start()
        for _ in range(20):
            assert server.get("/livez")[0] == 200
            assert server.describe(request_of(GOOD))[0] == 200
        assert b" 408 " in slow[0].recv(1_024)  # though bytes kept coming
        stop.set()
        feeder.join()
        for each in slow:
            each.close()
        assert server.end() == 0

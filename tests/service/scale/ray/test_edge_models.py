"""Which model an edge takes from its replicas, when it is lost, and what then becomes of what it was asked."""

import asyncio
import threading
import time
from typing import Any

import pytest

from dynrefer.model.errors import ModelError, ModelNotFoundError
from dynrefer.service.engine.executor import Phase, watch_executor
from dynrefer.service.engine.reservations import ExecutorClosed, QueuedRequest
from dynrefer.service.errors import QueueFullError
from dynrefer.service.observability.metrics import Metrics
from dynrefer.service.scale.ray import board as boards
from dynrefer.service.scale.ray.application import Edge
from dynrefer.service.scale.ray.autoscaling import wanted_replicas
from dynrefer.service.scale.ray.executor import ReplicaExecutor
from dynrefer.service.scale.ray.messages import Call, Reply
from dynrefer.service.settings import Settings
from tests.fakes import CARD, context_of
from tests.service.scale.ray.replicas_here import WAIT_S, Replicas, dies, doubled, started, submitted, until


def test_a_model_that_cannot_be_loaded_and_a_cluster_that_is_lost_are_told() -> None:
    lost: list[bool] = []
    executor = ReplicaExecutor(
        Settings(engine="ray"), Replicas("nowhere", {}, failure=ModelNotFoundError("no model.")), Metrics()
    )
    executor.start(lambda: lost.append(True))
    until(lambda: executor.phase is Phase.LOST)
    assert str(executor.failure) == "no model." and executor.lost
    until(lambda: lost == [True])

    replicas = Replicas("lost", {"a": doubled})
    executor = started(replicas)
    replicas.alive = False
    until(lambda: executor.lost)
    with pytest.raises(ExecutorClosed):
        executor.reserve(1, context_of())


def test_a_thread_that_waits_for_a_replica_goes_on_when_the_cluster_is_lost() -> None:
    replicas = Replicas("look", {"a": doubled})
    executor = started(replicas)
    raised: list[BaseException] = []

    def look() -> None:
        try:
            executor.predictor.look_again(None, None)  # type: ignore[union-attr, arg-type]
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    assert replicas.looking.wait(WAIT_S)
    replicas.alive = False
    thread.join(WAIT_S)
    assert [type(each) for each in raised] == [ExecutorClosed]
    with pytest.raises(ExecutorClosed):
        executor.predictor.look_again(None, None)  # type: ignore[union-attr, arg-type]
    until(executor._loop.is_closed)
    executor.cancel(QueuedRequest(0))


def test_an_edge_takes_its_model_from_replicas_of_its_own_version_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.START_WITHIN_S", (0.05,))
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.ASK_EVERY_S", 0.05)
    replicas = Replicas("versions", {"a": doubled}, version="new", there="old")
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: None)
    time.sleep(0.5)
    assert executor.phase is Phase.LOADING
    replicas.there = "new"
    until(lambda: executor.phase is Phase.READY)

    replicas = Replicas("never", {"a": doubled}, version="new", there="old")
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: None)
    until(lambda: "never" in boards._boards)
    executor.close()
    until(lambda: executor.phase is Phase.LOST)
    assert replicas.ended and not executor.lost


def test_regions_go_to_replicas_with_the_model_that_they_were_prepared_for() -> None:
    replicas = Replicas("mixed", {"a": doubled, "b": dies}, models={"b": "another"})
    executor = started(replicas, max_regions=4, max_queue_regions=4)
    until(lambda: len(replicas.asked) == 2 and boards.board_of("mixed").replicas["b"].state is not None)
    assert [submitted(executor, [each]) for each in range(10)] == [[2 * each] for each in range(10)]
    with pytest.raises(QueueFullError):
        executor.reserve(5, context_of())
    assert executor.counts.replicas == {"answering": 2, "silent": 0}


def test_an_edge_whose_replicas_all_have_another_model_is_lost_once_they_have_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynrefer.service.scale.ray.executor.SILENT_S", 0.1)
    finished = asyncio.Event()

    async def last_one(call: Call, items: list[Any]) -> Reply:
        await finished.wait()
        return doubled(call, items)

    lost: list[bool] = []
    replicas = Replicas("superseded", {"a": last_one, "b": dies}, models={"b": "another"})
    executor = ReplicaExecutor(Settings(engine="ray"), replicas, Metrics())
    executor.start(lambda: lost.append(True))
    until(lambda: executor.phase is Phase.READY)
    with executor.reserve(1, context_of()) as reservation:
        future = reservation.submit([1])
        until(lambda: len(replicas.seen) == 1)
        boards.board_of("superseded").update(["b"])
        until(lambda: executor.phase is Phase.STUCK)
        asked = replicas.asked["b"]
        until(lambda: replicas.asked["b"] >= asked + 2)
        with pytest.raises(ExecutorClosed):
            executor.reserve(1, context_of())
        assert not lost
        executor._loop.call_soon_threadsafe(finished.set)
        assert future.result(WAIT_S)[0].output == 2
    until(lambda: lost == [True])
    assert executor.lost


def test_an_edge_of_serve_is_sent_nothing_before_its_model_is_there_and_is_replaced_once_that_is_lost() -> None:
    class Handle:
        app_name = "edge"

    async def check() -> None:
        edge = Edge({"engine": "ray", "worker_processes": 0}, Handle(), "version")
        app = edge.__serve_build_asgi_app__()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(edge.check_health(), 0.2)
        executor = app.state.engine.serving.executor
        executor.predictor = object()
        await asyncio.wait_for(edge.check_health(), WAIT_S)
        executor.predictor = None  # an administrator's model instead of it is being loaded
        await asyncio.wait_for(edge.check_health(), WAIT_S)
        executor.lost = True
        with pytest.raises(ModelError):
            await edge.check_health()

    asyncio.run(check())


def test_without_a_ready_replica_nothing_is_admitted() -> None:
    replicas = Replicas("stuck", {"a": doubled}, phases={"a": Phase.STUCK})
    executor = started(replicas)
    assert executor.phase is Phase.STUCK
    with pytest.raises(ExecutorClosed):
        executor.reserve(1, context_of())
    replicas.phases = {}
    until(lambda: executor.phase is Phase.READY)
    assert executor.counts.caches == {"views": (1, 2)} and executor.counts.model == (CARD.name, CARD.revision)


def test_replicas_in_the_metrics_are_those_of_the_model_that_serves() -> None:
    metrics = Metrics()
    serving = started(Replicas("serving", {"a": doubled}))
    watch_executor(metrics, lambda: serving.counts)
    ReplicaExecutor(
        Settings(engine="ray"), Replicas("beside", {}, failure=ModelNotFoundError("no model.")), metrics
    ).start(lambda: None)
    assert serving.counts.replicas == {"answering": 1, "silent": 0}
    assert metrics.registry.get_sample_value("dynrefer_replicas", {"state": "answering"}) == 1


def test_replicas_follow_the_regions() -> None:
    assert [wanted_replicas(regions, 32) for regions in (0, 1, 32, 33, 320)] == [1, 1, 1, 2, 10]

"""Applications of Serve that are ended by a process which may be ending itself; Serve is a stand-in."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
from ray.serve.exceptions import RayServeException

from dynrefer.service.scale.ray import cluster, ending
from dynrefer.service.settings import Settings, SettingsError

SETTINGS = Settings(engine="ray", ray_address="10.0.0.5:6379")


class Serve:
    """applications: by name, how often it is still there after it was ended."""

    def __init__(self, **applications: int) -> None:
        self.left = {name.replace("_", "-"): times for name, times in applications.items()}
        self.ended: list[str] = []
        self.failure: Exception | None = None

    def status(self) -> Any:
        if self.failure is not None:
            raise self.failure
        found = list(self.left)
        for name in set(self.ended) & set(self.left):
            self.left[name] -= 1
            if self.left[name] < 0:
                del self.left[name]
        return SimpleNamespace(applications=found)

    def delete(self, name: str, _blocking: bool) -> None:
        assert not _blocking
        self.ended.append(name)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    found = Serve(dynrefer_1=2, dynrefer_27=0, dynrefer_x=0, another=0)
    monkeypatch.setattr(ending, "serve", found)
    monkeypatch.setattr(ending, "EVERY_S", 0.001)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    return found


def test_those_of_this_name_are_ended_and_waited_for(serve: Serve) -> None:
    ending.end_leftovers(SETTINGS)
    assert serve.ended == ["dynrefer-1", "dynrefer-27"] and list(serve.left) == ["dynrefer-x", "another"]


def test_the_wait_is_by_a_clock_that_nobody_sets(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    day = iter(range(0, 10_000_000, 3_600))
    monkeypatch.setattr(time, "time", lambda: float(next(day)))
    assert ending.end_application("dynrefer-1", 20.0)


def test_one_that_does_not_end_is_a_sentence_at_the_start_and_a_line_at_the_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    serve.left["dynrefer-1"] = 10**9
    assert not ending.end_application("dynrefer-1", 0.01)
    monkeypatch.setattr(ending, "REST_S", -1e9)
    with pytest.raises(SettingsError, match="dynrefer-1"):
        ending.end_leftovers(SETTINGS)
    ending.end_own(SETTINGS)
    assert "dynrefer-1" in caplog.text


def test_a_cluster_without_serve_s_controller_is_a_sentence_too(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    serve.failure = RayServeException("the controller is gone")
    with pytest.raises(SettingsError, match="10.0.0.5"):
        ending.end_leftovers(SETTINGS)
    ending.end_own(SETTINGS)
    assert "the controller is gone" in caplog.text


def test_a_process_that_has_left_its_cluster_asks_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    serve.failure = AssertionError("Serve would connect anew")
    assert ending.applications() == [] and ending.end_application("dynrefer-1", 1.0) and not serve.ended


def test_once_a_process_has_left_its_cluster_nothing_connects_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ray.init
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    cluster._leave()
    try:
        with pytest.raises(RuntimeError, match="left its Ray cluster"):
            ray.init(namespace="serve")
    finally:
        cluster._let_connect()
    assert ray.init is ours

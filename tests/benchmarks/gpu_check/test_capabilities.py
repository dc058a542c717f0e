"""How answers are compared, what the cores of a service are counted by, and how a switch under load is judged."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_check import capabilities, curve, reloads
from benchmarks.gpu_check.capabilities import CLOSE, compared
from benchmarks.gpu_check.clients import Answered, Load
from benchmarks.gpu_check.conditions import Conditions
from benchmarks.gpu_check.core_seconds import CoreSeconds, core_seconds
from dynrefer.workbench.profiling.workload import Workload, random_config, random_model
from tests.benchmarks.gpu_check.test_checks import SMALL


def test_words_and_numbers_are_compared_apart() -> None:
    expected = {"caption": "a dog", "score": 0.5, "tags": [{"name": "dog", "score": 4.0}], "timings_ms": {"views": 1.0}}
    found = {"caption": "a cat", "score": 0.5, "tags": [{"name": "dog", "score": 5.0}], "timings_ms": {"views": 9.0}}
    difference = compared(found, expected)
    assert (difference.words, difference.same, difference.furthest) == (2, 1, 0.25)
    assert difference.example == "/caption: a cat instead of a dog"
    assert compared(expected, expected).furthest == 0.0


@pytest.mark.parametrize("found", [{"tags": []}, {"other": 1.0}, "QueryError: no"])
def test_an_answer_of_another_shape_is_no_equal_one(found: Any) -> None:
    difference = compared(found, {"tags": [{"name": "dog", "score": 4.0}]})
    assert difference.same < difference.words and difference.example
    assert compared(float("nan"), 0.5).furthest > CLOSE


def test_masks_are_compared_by_their_pixels() -> None:
    mask = {"size": [2, 2], "counts": "13"}  # one pixel of background, then three
    other = {"size": [2, 2], "counts": "22"}
    assert compared({"mask": mask}, {"mask": mask}).furthest == 0.0
    assert compared({"mask": other}, {"mask": mask}).furthest == pytest.approx(1 / 3)


def test_a_number_that_is_wrong_fails_the_figure() -> None:
    assert not capabilities._figure("x", "float32", compared([1.0], [1.01])).ok
    assert capabilities._figure("x", "bfloat16", compared([1.0], [1.01])).ok
    assert not capabilities._figure("x", "bfloat16", compared(["a"], ["b"])).ok


def test_core_seconds_are_of_a_process_and_what_it_started() -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    process = subprocess.Popen([sys.executable, "-c", burn], start_new_session=True)
    try:
        before = core_seconds(process.pid)
        while core_seconds(process.pid).since(before).workers < 0.2:
            assert process.poll() is None
        spent = core_seconds(process.pid).since(before)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    assert spent.workers > spent.server
    assert CoreSeconds(2.0, {1: 1.5, 2: 0.5}, 4.0).per(2) == {
        "core_s_per_image": 3.0,
        "worker_core_s_per_image": 2.0,
        "server_core_s_per_image": 1.0,
        "device_thread_core_s_per_image": 0.75,
    }


@pytest.mark.parametrize(("after", "status", "ok"), [(1.0, 200, True), (1.2, 200, False), (1.0, 503, False)])
def test_a_switch_is_judged_by_requests_and_by_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, status: int, ok: bool
) -> None:
    memory = iter([1.0, *[2.0, after] * 99])
    monkeypatch.setattr(reloads, "switched", lambda *_: reloads.Switched(200, 3.0, next(memory), ""))
    monkeypatch.setattr(reloads, "send", lambda *_: Load((Answered(4, 0.0, 0.1, status),)))
    given = Conditions("cpu", "embedded", tmp_path)
    found = next(reloads.reloads(given, "service", "http://x", "second", tmp_path, lambda: next(memory)))
    assert found.ok is ok and found.detail["memory_after_gb"] == after and found.detail["memory_most_gb"] == 2.0


@pytest.mark.slow
def test_regions_join_as_others_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(Conditions, "curve_s", 0.8)
    monkeypatch.setattr(curve, "POOL", 3)
    work: Workload = SMALL
    given = Conditions("cpu", "embedded", tmp_path)
    loaded = random_model(random_config("embedded", work), work, given.on, torch.float32)
    found = curve.continuous(given, loaded, 2, "all")
    assert float(found.value) > 0 and found.detail["in_flight"] == 2
    assert curve.batch(given, loaded, 2, "tags").detail["regions"] == 2

"""The soak's verdicts: what an answer is worth, which fault a request was under way in, which promises are broken."""

import importlib
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

# `benchmarks` is no installed package; it lies beside the tests.
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.scale_out.exchanges import Answer
from benchmarks.scale_out.processes import Share, heap_and_shared
from benchmarks.scale_soak.catalogue import catalogue, essence, is_close
from benchmarks.scale_soak.faults import Injected
from benchmarks.scale_soak.summary import broken, by_fault, log_lines, resources
from benchmarks.scale_soak.traffic import Record
from benchmarks.scale_soak.verdicts import ALLOWED, FORBIDDEN, Expected, verdict
from benchmarks.scale_soak.watch import Sample, slope_per_hour

BODY = b'{"id": "req_1", "regions": [{"score": 0.5}], "timings_ms": {"total": 3}}'
EXPECTED = Expected(200, essence(BODY))


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (Answer(200, 1.0, {}, BODY.replace(b"req_1", b"req_2").replace(b"3}", b"4}")), "right"),
        (Answer(200, 1.0, {}, BODY.replace(b"0.5", b"0.5001")), "close"),
        (Answer(200, 1.0, {}, BODY.replace(b"0.5", b"0.6")), "wrong"),
        (Answer(200, 1.0, {}, b"{"), "wrong"),
        (Answer(422, 1.0, {}, b"{}"), "wrong"),
        (Answer(429, 1.0, {"retry-after": "1"}, b"{}"), "refused"),
        (Answer(503, 1.0, {}, b"{}"), "impolite"),
        (Answer(504, 60.1, {}, b"{}"), "late"),
        (Answer(504, 1.0, {}, b"{}"), "early"),
        (Answer(500, 1.0, {}, b"{}"), "failed"),
        (Answer(0, 90.0), "lost"),
        (Answer(200, 1.0, {}, BODY, surplus=True), "doubled"),
    ],
)
def test_verdicts(answer: Answer, wanted: str) -> None:
    assert verdict(answer, EXPECTED, 60.0) == wanted
    assert wanted in (*ALLOWED, *FORBIDDEN)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux alone says what memory is shared")
def test_own_memory_and_shared_memory_are_told_apart() -> None:
    heap, shared = heap_and_shared(os.getpid())
    own = bytearray(os.urandom(1 << 20) * 32)
    heap_with_own, shared_with_own = heap_and_shared(os.getpid())
    assert heap_with_own - heap > len(own) / 2 > shared_with_own - shared
    with mmap.mmap(-1, 32 << 20, mmap.MAP_SHARED) as pages:
        pages.write(own)
        heap_then, shared_then = heap_and_shared(os.getpid())
        assert shared_then - shared_with_own > len(own) / 2 > heap_then - heap_with_own


def test_growth_is_judged_by_the_heap_and_not_by_pages_of_the_object_store() -> None:
    def sample(minute: int, heap_mb: int, shared_mb: int) -> Sample:
        total = (heap_mb + shared_mb) * 10**6
        share = Share(1, total, total, 10, heap_mb * 10**6, shared_mb * 10**6)
        return Sample(60.0 * minute, {"edge": share}, 0, 0)

    steady = resources([sample(minute, 80, 10 * minute) for minute in range(10)])
    assert steady["heap_mb_per_hour"] == 0 and steady["pss_mb_per_hour"] == pytest.approx(600)
    assert resources([sample(minute, 80 + minute, 0) for minute in range(10)])["heap_mb_per_hour"] == pytest.approx(60)
    assert steady["by_role_last"]["edge"]["shared_mb"] == 90


def test_the_catalogue_is_the_same_in_every_process_and_names_are_unique() -> None:
    first = catalogue()
    catalogue.cache_clear()
    assert catalogue() == first
    assert len({each.name for each in first}) == len(first)
    assert {each.kind for each in first} == {"describe", "large", "images", "detect", "bad"}


def test_close_is_no_other_structure() -> None:
    assert is_close([1.0, {"a": "x"}], [1.0005, {"a": "x"}])
    assert not is_close([1.0], [1.0, 1.0])
    assert not is_close({"a": True}, {"a": False})
    assert not is_close({"a": 1}, {"b": 1})


def record(request_id: str, due: float, seconds: float = 1.0, found: str = "right", status: int = 200) -> Record:
    """One of a describe request."""
    return Record(request_id, "waits", "describe", "x", 1, due, seconds, status, found)


def test_a_request_belongs_to_the_fault_that_it_was_under_way_in() -> None:
    faults = [Injected("kill", 10.0, 10.1, 9.0), Injected("full disk", 70.0, 90.0, None)]
    records = [record("a", 8.0), record("b", 9.5), record("c", 18.0, found="lost", status=0), record("d", 89.0)]
    rows = by_fault(records, faults)
    assert {name: row["requests"] for name, row in rows.items()} == {"none": 1, "kill": 2, "full disk": 1}
    assert rows["kill"]["lost"] == 1


def test_every_answer_has_one_line_of_the_log_but_on_a_full_disk() -> None:
    line = '{"logger": "service.access", "request_id": "soak-%s"}\n'
    records = [record("soak-a", 0.0), record("soak-b", 1.0), record("soak-c", 75.0)]
    found = log_lines(line % "a" + line % "a" + "cut {", records, [Injected("full disk", 70.0, 90.0, None)])
    assert found["twice"] == 1 and found["missing"] == 1


def report(**other: Any) -> dict[str, Any]:
    """Of a run in which all went well, but for `other`."""
    whole: dict[str, Any] = {
        "by_verdict": dict.fromkeys((*ALLOWED, *FORBIDDEN), 0),
        "ids_twice": 0,
        "log": {"twice": 0, "missing": 0},
        "faults": [{"fault": "kill", "minute": 1, "recovered_s": 9.0}],
        "end": {"exit_code": 0, "processes_left": [], "shared_memory_left": []},
        "resources": {"heap_mb_per_hour": 3.0, "descriptors_per_hour": 0.0},
    }
    return {**whole, **other}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({}, []),
        ({"by_verdict": dict.fromkeys((*ALLOWED, *FORBIDDEN), 0) | {"lost": 2}}, ["lost: 2"]),
        ({"faults": [{"fault": "kill", "minute": 1, "recovered_s": None}]}, ["not recovered from kill of minute 1"]),
        ({"end": {"exit_code": 1, "processes_left": [], "shared_memory_left": []}}, ["exit code 1"]),
        (
            {"resources": {"heap_mb_per_hour": 900.0, "descriptors_per_hour": 0.0}},
            ["memory grows by 900.0 MB an hour"],
        ),
    ],
)
def test_broken_promises_are_said(other: dict[str, Any], said: list[str]) -> None:
    assert broken(report(**other), long=True) == said


def test_slopes_leave_out_the_settling_part() -> None:
    times = [float(each) for each in range(0, 3600, 60)]
    values = [1000.0 - at if at < 600 else 400.0 + at / 360 for at in times]
    assert slope_per_hour(times, values) == pytest.approx(10.0)


def test_the_sleep_under_libfaketime_sleeps() -> None:
    original = time.sleep
    try:
        importlib.import_module("benchmarks.scale_soak.clock.sitecustomize")
        assert time.sleep is not original
        began = time.monotonic()
        time.sleep(0.02)
        assert time.monotonic() - began >= 0.02
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)
    finally:
        time.sleep = original

"""A batch run that is killed at any moment goes on where it was: no answer is lost, doubled or torn."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.repository import ROOT
from tests.service.batch.inputs import lines_of, many_requests

ITEMS = 1_200
KILLS = 20
BATCH_S = 0.12  # of 16 regions: the work takes some nine seconds, more than twenty lives that are cut short
MOST_LIFE_S = 0.5  # of work, before a process is killed

pytestmark = [pytest.mark.server, pytest.mark.slow]


def start(given: Path, out: Path, run_s: float = BATCH_S) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.service.batch.fake_run", str(given), str(out), f"{out}.coco.json"]
    environment = {**os.environ, "FAKE_RUN_SECONDS": str(run_s), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def finish(given: Path, out: Path, run_s: float = BATCH_S) -> str:
    """A run to its end; what it said."""
    process = start(given, out, run_s)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said.decode()


def journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".journal.jsonl")


def whole_lines(journal: Path) -> list[bytes]:
    """The lines but for a torn one, and but for the first, which says what was asked."""
    data = journal.read_bytes() if journal.exists() else b""
    return data.splitlines(keepends=True)[1 : data.count(b"\n")]


def kill_after_work(process: "subprocess.Popen[bytes]", journal: Path, seconds: float) -> None:
    """Kill a process so long after it began to answer, or, below 0, so long after its start."""
    size = journal.stat().st_size if journal.exists() else 0
    until = time.monotonic() + 60
    while seconds >= 0 and process.poll() is None and time.monotonic() < until:
        if journal.exists() and journal.stat().st_size > size:
            break
        time.sleep(0.002)
    time.sleep(abs(seconds))
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_requests(tmp_path_factory.mktemp("given"), ITEMS)


@pytest.fixture(scope="module")
def expected(given: Path) -> dict[str, bytes]:
    """What a run writes that nobody kills, by ending."""
    out = given.parent / "whole.jsonl"
    finish(given, out, run_s=0)
    return {"": out.read_bytes(), ".coco.json": Path(f"{out}.coco.json").read_bytes()}


def test_a_run_killed_at_twenty_random_moments_answers_each_item_once(
    given: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, out = random.Random(seed), tmp_path / "out.jsonl"
    journal, kills, before = journal_of(out), 0, 0
    while kills < KILLS:
        # Every fourth dies before its first answer, or about then.
        moment = -rng.uniform(0, 1.5) if kills % 4 == 3 else rng.uniform(0, MOST_LIFE_S * 0.5)
        process = start(given, out)
        kill_after_work(process, journal, moment)
        assert process.returncode == -signal.SIGKILL, "the run ended before it was killed: make it longer"
        kills += 1
        lines = whole_lines(journal)
        assert len(lines) >= before, "answers were lost"
        assert len(set(lines)) == len(lines), "answers were doubled"
        before = len(lines)
        assert not out.exists()
    assert before < ITEMS, "nothing was left for the last run"
    said = finish(given, out, run_s=0)
    assert out.read_bytes() == expected[""], said
    assert Path(f"{out}.coco.json").read_bytes() == expected[".coco.json"]
    records = [line for line in lines_of(journal)[1:] if "wrote" not in line]  # the others name the files
    assert len(records) == len({record["item"] for record in records}) == ITEMS
    assert not list(tmp_path.glob("*.failed.jsonl"))


def test_a_run_killed_while_it_writes_leaves_a_whole_file_or_none(
    given: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng, out = random.Random(seed), tmp_path / "out.jsonl"
    finish(given, out, run_s=0)
    for _ in range(5):
        out.unlink(missing_ok=True)
        process = start(given, out)
        time.sleep(rng.uniform(0.5, 3.0))
        process.kill()
        process.communicate()
        assert not out.exists() or out.read_bytes() == expected[""]
    finish(given, out)
    assert out.read_bytes() == expected[""]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.coco.json",
        "out.jsonl.journal.jsonl",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_what_is_under_way(
    given: Path, expected: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.jsonl"
    process = start(given, out)
    until = time.monotonic() + 60
    while not whole_lines(journal_of(out)) and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on." in said.decode()
    done = len(whole_lines(journal_of(out)))
    assert 0 < done < ITEMS and journal_of(out).read_bytes().endswith(b"\n")
    assert not out.exists()
    assert f"{ITEMS - done:,} images" in finish(given, out, run_s=0)
    assert out.read_bytes() == expected[""]


def test_a_second_signal_ends_it_at_once(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    process = start(given, out, run_s=20.0)
    time.sleep(2.5)
    began = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert time.monotonic() - began < 15


def test_two_processes_do_not_write_one_journal(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first = start(given, out, run_s=0.2)
    until = time.monotonic() + 60
    while not journal_of(out).exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    second = start(given, out)
    _, said = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2 and b"another process is writing" in said

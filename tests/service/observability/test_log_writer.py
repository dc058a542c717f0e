"""Standard error that never blocks: lines are written whole and in order, or dropped and counted."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from dynrefer.service.observability import log_writer
from dynrefer.service.observability.log_writer import LogWriter

PATIENCE_S = 60.0
LINE = "x" * 999 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end); a test may close them."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def read_lines(end: int, count: int) -> list[str]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(end, 65_536)
    return data.decode().splitlines()


def test_lines_of_several_threads_are_written_whole(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])

    def work(name: str) -> None:
        for index in range(100):
            print(name, index, file=writer)  # three writes

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    lines = read_lines(pipe[0], 200)
    assert [line for line in lines if line[0] == "a"] == [f"a {index}" for index in range(100)]
    assert [line for line in lines if line[0] == "b"] == [f"b {index}" for index in range(100)]
    assert writer.drain(PATIENCE_S) and writer.dropped == 0


def test_a_line_without_an_end_is_written_when_flushed(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    print("50 %", end="\r", file=writer, flush=True)
    assert os.read(pipe[0], 100) == b"50 %\r"


def test_lines_that_nobody_reads_are_dropped_and_reported(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "WAITING_BYTES", 100_000)
    reports: list[int] = []
    writer = LogWriter(pipe[1], reports.append)
    for _ in range(1_000):
        writer.write(LINE)
    assert not writer.drain(0)
    assert 700 < writer.dropped < 1_000
    lines = read_lines(pipe[0], 1_000 - writer.dropped)
    assert set(lines) == {LINE.strip()}  # none is cut
    until = time.monotonic() + PATIENCE_S
    while sum(reports) < writer.dropped:  # told once each time that writing works again
        assert time.monotonic() < until
        time.sleep(0.005)
    assert sum(reports) == writer.dropped
    writer.write("again\n")
    assert read_lines(pipe[0], 1) == ["again"]


def test_a_closed_pipe_is_no_error(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    os.close(pipe[0])
    writer.write(LINE * 3)
    assert writer.drain(PATIENCE_S) and writer.dropped == 3


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = LogWriter(pipe[1])
    for _ in range(200):
        writer.write(LINE)
    assert len(read_lines(pipe[0], 200)) == 200 and writer.dropped == 0


def test_text_that_is_no_unicode_is_written_all_the_same(pipe: tuple[int, int]) -> None:
    writer = LogWriter(pipe[1])
    writer.write("\ud800 é\n")
    assert read_lines(pipe[0], 1) == ["\\ud800 é"]


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "sys.stderr.flush(); raise SystemExit(3)"])
def test_a_process_ends_though_nobody_reads_its_last_lines(end: str, pipe: tuple[int, int]) -> None:
    code = (
        "import sys\n"
        "from dynrefer.service.observability import log_writer\n"
        "log_writer.LAST_LINES_S = 0.1\n"
        "log_writer.replace_standard_error(print)\n"
        f"print('x' * 500_000, file=sys.stderr)\n{end}\n"
    )
    assert subprocess.run([sys.executable, "-c", code], stderr=pipe[1], timeout=PATIENCE_S).returncode == 3


def test_the_last_lines_of_a_process_are_written() -> None:
    code = (
        "import sys\n"
        "from dynrefer.service.observability.log_writer import replace_standard_error\n"
        "replace_standard_error(print)\n"
        "print('the last line', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "the last line\n")

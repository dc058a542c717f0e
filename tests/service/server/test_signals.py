"""The signals that stop a process which has not begun to serve, and what a signal changes after that."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.server

PATIENCE_S = 120
WAITING = "print('here', flush=True)\nwhile line := sys.stdin.readline(): print('alive', flush=True)\n"


def started(code: str) -> subprocess.Popen[str]:
    """A Python process that has printed `here`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal, sys\n" + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit code, standard error)."""
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_service_that_is_still_importing_ends_with_0(number: signal.Signals) -> None:
    # What `main` calls first, before a command is even looked for.
    code = (
        "import dynrefer.service.cli as cli\n"
        "def wait():\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.readline()\n"
        "cli.set_thread_environment = wait\n"
        "sys.argv = ['dynrefer', 'serve']\n"
        "cli.main()\n"
    )
    process = started(code)
    process.send_signal(number)
    assert ended(process) == (0, "")


def test_signals_are_counted_once_the_service_has_them() -> None:
    code = (
        "from dynrefer.service.server.signals import stop_signals\n"
        "stop_signals().hand_over(lambda count: print(count, flush=True))\n"
    )
    process = started(code + WAITING)
    assert process.stdin is not None and process.stdout is not None
    for count in ("1", "2", "3"):
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == count + "\n"
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 0


def test_a_hangup_that_is_ignored_as_nohup_does_stays_so() -> None:
    code = (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from dynrefer.service.server.signals import stop_signals\n"
        "stop_signals()\n"
    )
    process = started(code + WAITING)
    assert process.stdin is not None and process.stdout is not None
    process.send_signal(signal.SIGHUP)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "alive\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (0, "")


def test_a_signal_does_not_change_the_exit_code_of_a_process_that_ends() -> None:
    code = (
        "from dynrefer.service.server.signals import ignore_stop_signals, stop_signals\n"
        "stop_signals()\n"
        "ignore_stop_signals()\n"
        "import weakref\n"
        "class Last: pass\n"
        "last = Last()\n"
        f"def wait():\n    {WAITING.splitlines()[0]}\n    sys.stdin.readline()\n"
        "weakref.finalize(last, wait)\n"  # called while the interpreter ends
        "sys.exit(3)\n"
    )
    process = started(code)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (3, "")

"""Standard streams: what a process was started without, and what cannot be printed."""

import subprocess
import sys

CODE = (
    "import os, sys\n"
    "from dynrefer.service.standard_streams import *\n"
    "from dynrefer.service.standard_streams import UnwritableOutput\n"
    "prepare_standard_streams()\n"
)


def run(code: str, redirections: str = "") -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-c", CODE + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_file_that_is_opened_does_not_become_a_standard_stream() -> None:
    done = run("raise SystemExit(os.open('/', os.O_RDONLY))", "<&- >&- 2>&-")
    assert done.returncode == 3


def test_output_goes_where_it_went_before() -> None:
    assert run("print('one'); print('zwölf'); finish_output()").stdout == "one\nzwölf\n"


def test_an_error_of_the_output_is_told_from_that_of_a_file() -> None:
    code = (
        "try:\n"
        "    print('x' * 100_000)\n"
        "except OSError: sys.exit(3)\n"
        "except UnwritableOutput as error:\n"
        "    abandon_output()\n"
        "    print(error, file=sys.stderr)\n"
        "    sys.exit(4)\n"
    )
    done = run(code, ">/dev/full")
    assert (done.returncode, done.stderr) == (4, "no space left on device\n")

"""The environment variables of torch's and NumPy's threads: set by the command, in time, and by no import."""

import json
import os
import subprocess
import sys

import pytest

from tests.test_imports import MODULES, under

NAMES = ("GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")

# torch sets variables of its own when it is imported: whose line of code does it is what counts.
IMPORT_ALL = """
import importlib, json, os, sys
names, files = json.loads(sys.argv[1])
setters = []
def note(event, _):
    if event in ("os.putenv", "os.unsetenv"):
        setters.append(sys._getframe(2).f_code.co_filename)
sys.addaudithook(note)
os.environ["DYNREFER_PROBE"] = ""
assert setters == ["<string>"]
before = dict(os.environ)
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:  # a package of an extra that is not installed
        assert not str(error.name).startswith("dynrefer"), error
ours = [file for file in setters if os.path.realpath(file) in files]
after = {name: value for name, value in os.environ.items() if name in before or not name.startswith("RAY_")}
print(json.dumps({"ours": ours, "unchanged": before == after}))  # Ray sets some of its own when it is imported
"""

# In the place of the server: what stands when `dynrefer serve` is about to serve. NumPy is loaded, torch not yet.
SERVE = """
import json, os, sys
sys.argv = ["dynrefer", "serve", "--port", "0"]
from dynrefer.service import cli, serve_command
assert not {"numpy", "PIL", "torch"} & set(sys.modules)
def serve(settings, listener):
    loaded = [name for name in ("numpy", "torch") if name in sys.modules]
    threads = len(os.listdir("/proc/self/task"))
    print(json.dumps([loaded, threads, os.environ["GOMP_SPINCOUNT"], os.environ["OPENBLAS_NUM_THREADS"]]))
    return 0, ""
def load_settings(flags, load=serve_command.load_settings):
    from dynrefer.service.server import server  # as the command does next
    server.serve = serve
    return load(flags)
serve_command.load_settings = load_settings
cli.main()
"""


def run(code: str, *arguments: str, **variables: str) -> str:
    """Standard output of the code in a process of its own, without the variables that `make` sets."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout


@pytest.mark.slow
def test_no_module_of_ours_sets_an_environment_variable_when_it_is_imported() -> None:
    files = [str(path.resolve()) for path in MODULES.values()]
    found = json.loads(run(IMPORT_ALL, json.dumps([sorted(MODULES), files])))
    assert found["ours"] == []


def test_importing_the_service_changes_nothing_in_the_environment() -> None:
    service = sorted(name for name in MODULES if under(name, "dynrefer.service"))
    assert json.loads(run(IMPORT_ALL, json.dumps([service, []]))) == {"ours": [], "unchanged": True}


def test_numpy_has_threads_by_default() -> None:
    """So that the next test tests something; on a single core there is nothing to test."""
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    assert (int(run(count)) > 1) == (len(os.sched_getaffinity(0)) > 1)
    assert int(run(count, OPENBLAS_NUM_THREADS="1")) == 1


def test_the_command_sets_them_before_numpy_is_loaded() -> None:
    assert json.loads(run(SERVE)) == [["numpy"], 2, "10000", "1"]  # the main thread and that of the signals


def test_the_users_own_values_stand() -> None:
    found = json.loads(run(SERVE, GOMP_SPINCOUNT="7", OPENBLAS_NUM_THREADS="2"))
    assert found[2:] == ["7", "2"]

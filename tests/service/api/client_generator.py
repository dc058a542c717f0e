"""An environment with a generator of clients, outside of the tests' own, and clients made with it.

The environment lies in .cache, where git does not see it, and is made once for each version of its pins: some seconds.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.repository import ROOT

PINS = Path(__file__).with_name("client_generator.txt")
CACHE = ROOT / ".cache" / "client-generator"


def environment() -> Path:
    """The folder of the environment, made if it is not there yet."""
    digest = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = CACHE / digest
    if not (folder / "complete").exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        venv.create(folder, with_pip=True)
        run(folder, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--requirement", str(PINS))
        (folder / "complete").touch()
    return folder


def run(environment: Path, *arguments: str, cwd: Path | None = None) -> str:
    """Run the environment's Python; what it prints, errors included. Raises AssertionError where it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # The generator formats its code with ruff, which it looks for in the path.
    clean["PATH"] = f"{environment / 'bin'}{os.pathsep}{clean['PATH']}"
    command = [str(environment / "bin/python"), *arguments]
    done = subprocess.run(command, cwd=cwd, env=clean, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout

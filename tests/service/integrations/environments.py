"""Environments of their own for the programs and clients that the integrations are tested with: their pins exclude each
other and the service's.

An environment is a folder .cache/environments/NAME-DIGEST, made from requirements/NAME.txt when a test first needs it
and kept until that file changes; `make clean` removes all. `environment` is the fixture of a test that needs one.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.repository import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
FOLDER = ROOT / ".cache" / "environments"


def python_with(name: str) -> Path:
    """The interpreter of an environment with what requirements/NAME.txt lists, which is installed if need be.

    Raises subprocess.CalledProcessError where it cannot be installed: without a package index these tests fail, as
    `make test` itself does.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = FOLDER / f"{name}-{digest}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs of the tests make it once
        if not (folder / ".complete").exists():
            for former in FOLDER.glob(f"{name}-*"):
                shutil.rmtree(former)
            uv = [sys.executable, "-m", "uv"]
            subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
            python = ["--python", str(folder / "bin" / "python")]
            subprocess.run([*uv, "pip", "install", "--quiet", *python, "-r", str(requirements)], check=True)
            (folder / ".complete").touch()
    return folder / "bin" / "python"

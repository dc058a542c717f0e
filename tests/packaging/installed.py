"""Build the wheel and the source distribution, install each in an environment of its own and use it: `make package`.

    python -m tests.packaging.installed [--out dist]

Each environment starts empty and lies outside the checkout; the distribution brings its dependencies, in the versions
of requirements.txt. Each is installed with the extra `serve`, as a service, and the wheel alone too, as a client, which
then asks a service of the other environment.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.repository import ROOT

# Importing what `dynrefer serve` needs, without any other extra; and where the package was found.
IMPORTS = """
import dynrefer, dynrefer.service.app, dynrefer.service.server.server
from dynrefer import DynRefer
print(dynrefer.__file__, DynRefer.__module__)
"""
# What the client alone is: no torch and nothing that serves, but it describes.
CLIENT = """
import importlib.util, sys
from dynrefer import Client
there = [name for name in ("torch", "fastapi", "transformers", "onnxruntime") if importlib.util.find_spec(name)]
assert not there, there
try:
    from dynrefer import DynRefer
except ModuleNotFoundError as error:
    assert "pip install 'dynrefer[serve]'" in str(error), error
else:
    raise AssertionError("DynRefer without torch")
with Client(sys.argv[1]) as client:
    (region,) = client.describe("scene.png", [(41, 2, 117, 82)], "caption")
print(region.caption.text)
"""
BOX = ("scene.png", "--box", "41,2,117,82", "--json")


def clean_environment() -> dict[str, str]:
    """Without the variables that would show a command another Python's packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def run(*command: str | Path, cwd: Path, check: bool = True, **options: bool) -> subprocess.CompletedProcess[str]:
    """Run a command; it must succeed."""
    called = [str(part) for part in command]
    return subprocess.run(called, cwd=cwd, env=clean_environment(), text=True, check=check, **options)


def distributions(out: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built as for a release: the wheel from the sdist."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=Path(folder), capture_output=True)
        out.mkdir(parents=True, exist_ok=True)
        wheel, sdist = (
            Path(shutil.copy(path, out)) for suffix in ("*.whl", "*.tar.gz") for path in Path(folder).glob(suffix)
        )
    return wheel, sdist


def installed(distribution: Path, extra: str, folder: Path) -> Path:
    """A new environment in this folder with the distribution and what it needs. extra: such as "[serve]"."""
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    pip = (environment / "bin/python", "-m", "pip", "--disable-pip-version-check")
    install = (*pip, "install", "-qq", "--no-compile", "--constraint", ROOT / "requirements.txt")
    began = time.monotonic()
    run(*install, f"{distribution}{extra}", cwd=folder)
    run(*pip, "check", cwd=folder, capture_output=True)
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"{distribution.name}{extra}: {size / 1e6:.0f} MB with its dependencies, {time.monotonic() - began:.0f} s")
    return environment


def check_use(environment: Path, folder: Path) -> None:
    """Import the package and describe an image, in a folder with modules that are named as our folders."""
    for name in ("model", "service", "workbench"):
        (folder / f"{name}.py").write_text("raise AssertionError('the wrong module')\n", encoding="utf-8")
    python = environment / "bin/python"
    origin, module = run(python, "-c", IMPORTS, cwd=folder, capture_output=True).stdout.split()
    assert Path(origin).is_relative_to(environment) and module == "dynrefer.model.predictor", (origin, module)
    (region,) = json.loads(run(environment / "bin/dynrefer", "describe", *BOX, cwd=folder, capture_output=True).stdout)
    assert region["caption"]["text"], region
    print(f"  {origin}: {region['caption']['text']!r}")


@contextmanager
def served(environment: Path, folder: Path) -> Iterator[str]:
    """The address of a service of this environment, with the embedded model."""
    command = [str(environment / "bin/dynrefer"), "serve", "--port", "0", "--device", "cpu"]
    options: dict[str, Any] = {"cwd": folder, "env": clean_environment(), "text": True}
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        assert process.stderr is not None
        address = ""
        for line in process.stderr:
            if line.startswith("Listening on "):
                address = line.split()[-1]
            elif " ready: " in line:
                break
        try:
            yield address
        finally:
            process.terminate()
            process.stderr.read()


def check_client(environment: Path, url: str, folder: Path) -> None:
    """The wheel alone is a client, in Python and on the command line, and says what it lacks for the rest."""
    python, dynrefer = environment / "bin/python", environment / "bin/dynrefer"
    text = run(python, "-c", CLIENT, url, cwd=folder, capture_output=True).stdout.strip()
    (region,) = json.loads(run(dynrefer, "describe", *BOX, "--server", url, cwd=folder, capture_output=True).stdout)
    assert region["caption"]["text"] and text, (text, region)
    for command in (("serve",), ("describe", *BOX)):
        done = run(dynrefer, *command, cwd=folder, check=False, capture_output=True)
        assert done.returncode == 2 and "pip install 'dynrefer[serve]' adds it" in done.stderr, done.stderr
    print(f"  the client alone, asking {url}: {text!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheel and the sdist")
    started = time.monotonic()
    wheel, sdist = distributions(parser.parse_args().out.resolve())
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as name:
        for place, distribution in enumerate((sdist, wheel)):
            folder = Path(name) / str(place) / "work"
            folder.mkdir(parents=True)
            shutil.copy(ROOT / "docs/images/scene.png", folder)
            environment = installed(distribution, "[serve]", folder.parent)
            check_use(environment, folder)
            if distribution is wheel:
                (alone := Path(name) / "alone").mkdir()
                shutil.copy(ROOT / "docs/images/scene.png", alone)
                with served(environment, folder) as url:
                    check_client(installed(wheel, "", alone), url, alone)
            else:
                shutil.rmtree(folder.parent)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""Build the wheel and the source distribution, install each in an environment of its own and use it: `make package`.

    python -m tests.packaging.installed [--out dist]

Each environment starts empty and lies outside the checkout; the distribution brings its dependencies, in the versions
of requirements.txt.
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
from pathlib import Path

from tests.repository import ROOT

# Importing what `dynrefer serve` needs, without any extra; and where the package was found.
IMPORTS = """
import dynrefer, dynrefer.service.app, dynrefer.service.server.server
from dynrefer import DynRefer
print(dynrefer.__file__, DynRefer.__module__)
"""


def run(*command: str | Path, cwd: Path, **options: bool) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables that would show it another Python's packages; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, text=True, check=True, **options)


def distributions(out: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built as for a release: the wheel from the sdist."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=Path(folder), capture_output=True)
        out.mkdir(parents=True, exist_ok=True)
        wheel, sdist = (
            Path(shutil.copy(path, out)) for suffix in ("*.whl", "*.tar.gz") for path in Path(folder).glob(suffix)
        )
    return wheel, sdist


def check_use(environment: Path, folder: Path) -> None:
    """Import the package and describe an image, in a folder with modules that are named as our folders."""
    for name in ("model", "service", "workbench"):
        (folder / f"{name}.py").write_text("raise AssertionError('the wrong module')\n", encoding="utf-8")
    python = environment / "bin/python"
    origin, module = run(python, "-c", IMPORTS, cwd=folder, capture_output=True).stdout.split()
    assert Path(origin).is_relative_to(environment) and module == "dynrefer.model.predictor", (origin, module)
    command = (environment / "bin/dynrefer", "describe", "scene.png", "--box", "41,2,117,82", "--json")
    (region,) = json.loads(run(*command, cwd=folder, capture_output=True).stdout)
    assert region["caption"]["text"], region
    print(f"  {origin}: {region['caption']['text']!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the wheel and the sdist")
    started = time.monotonic()
    wheel, sdist = distributions(parser.parse_args().out.resolve())
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    for distribution in (wheel, sdist):
        with tempfile.TemporaryDirectory() as name:
            environment, folder = Path(name) / "environment", Path(name) / "work"
            folder.mkdir()
            shutil.copy(ROOT / "docs/images/scene.png", folder)
            venv.create(environment, with_pip=True)
            pip = (environment / "bin/python", "-m", "pip", "--disable-pip-version-check")
            install = (*pip, "install", "-qq", "--no-compile", "--constraint", ROOT / "requirements.txt")
            print(f"{distribution.name}, with its dependencies:")
            run(*install, distribution, cwd=folder)
            run(*pip, "check", cwd=folder, capture_output=True)
            check_use(environment, folder)
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""What travels to a machine with a GPU and no network."""

import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.gpu_check import bundle
from dynrefer.workbench.profiling.machine import COMMIT_FILE, commit
from tests.repository import ROOT

# What the check imports, and where from.
IMPORTS = """
import benchmarks.gpu_check.__main__, benchmarks.gpu_check.agreement, benchmarks.gpu_check.clients
import benchmarks.gpu_check.embedded, benchmarks.gpu_check.faults, benchmarks.gpu_check.peers
import benchmarks.gpu_check.service, benchmarks.gpu_check.speed, dynrefer.service.app, dynrefer.service.server.server
from dynrefer import DynRefer
from dynrefer.workbench.profiling.machine import commit
import numpy
model = DynRefer.load("embedded", device="cpu")
(found,) = model.describe(numpy.zeros((64, 64, 3), numpy.uint8), [(8, 8, 40, 40)])
print(dynrefer.model.__path__[0], commit())
"""


def one_wheel(wanted: Sequence[str], python: str, folder: Path) -> None:
    """Instead of a download: a wheel that compresses well."""
    assert python == "3.12" and all("==" in each for each in wanted)
    with zipfile.ZipFile(folder / "made-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("made/__init__.py", "x = 1\n" * 10_000)


@pytest.mark.slow
def test_the_unpacked_bundle_works_without_the_checkout(tmp_path: Path) -> None:
    out = tmp_path / "bundle.tar.xz"
    sizes = bundle.write(out, "3.12", one_wheel)
    assert sizes["model"] > 20e6 and "made-1.0-py3-none-any.whl" in sizes
    with tarfile.open(out) as packed:
        names = packed.getnames()
        packed.extractall(tmp_path, filter="data")
    there = tmp_path / bundle.NAME
    assert not [name for name in names if "/goldens/" in name or name.endswith((".zip", ".md")) and "/docs/" in name]
    assert (there / COMMIT_FILE).read_text(encoding="utf-8") == commit()
    (wheel,) = (there / bundle.WHEELS).glob("*.whl")
    with zipfile.ZipFile(wheel) as unpacked:
        (entry,) = unpacked.infolist()
        assert entry.compress_type == zipfile.ZIP_STORED and unpacked.read(entry).startswith(b"x = 1")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        cwd=there,
        env={"PYTHONPATH": str(there), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, of = done.stdout.split()
    assert Path(where).resolve().is_relative_to(there) and of == commit()


def test_what_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "files", lambda: ["LICENSE"])
    with pytest.raises(SystemExit, match="more than 1e-05"):
        bundle.write(tmp_path / "bundle.tar.xz", "3.12", one_wheel, most_bytes=10)
    assert list(tmp_path.iterdir()) == []


def test_neither_torch_nor_what_it_brings_travels() -> None:
    names = {each.split("==")[0] for each in bundle.requirements()}
    assert {"transformers", "onnxruntime", "imagehash", "pillow", "fastapi", "opentelemetry-api"} <= names
    assert not names & {"torch", "numpy", "scipy", "pywavelets", "opentelemetry-sdk", "hf-xet"}


def test_our_hashes_need_neither_scipy_nor_wavelets() -> None:
    """ImageHash imports them only for hashes that are not ours, so that their 40 MB may stay at home."""
    code = "import sys, dynrefer.model.views; sys.exit(any(name in sys.modules for name in ('scipy', 'pywt')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

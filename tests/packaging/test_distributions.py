"""What is in the wheel and in the source distribution: the package dynrefer as real files, and nothing else."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.repository import ROOT

pytestmark = pytest.mark.slow

FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE")
PARTS = ("model", "service", "workbench")
DATA = ("model/embedded", "model/vocabularies", "model/drawing/fonts", "service/playground/static")
# Folders that somebody may have in a checkout, and that must not be installed.
STRAY_FOLDERS = ("models", "model_old", "dynrefer_old", "dynreferences", "runs")


def copy_of_checkout(folder: Path, parts: tuple[str, ...] = PARTS) -> Path:
    """A checkout with its links in dynrefer/, and with only some of the folders that they point to."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for name in ("dynrefer", *parts):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    assert all((folder / "dynrefer" / name).is_symlink() for name in PARTS)
    return folder


def built(kind: str, source: Path, out: Path) -> Path:
    """A wheel or an sdist, by the hook that every build front end calls, with the setuptools that is installed."""
    out.mkdir()
    code = f"import sys, setuptools.build_meta as backend; backend.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, check=True)
    (path,) = out.iterdir()
    return path


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_of_checkout(tmp_path_factory.mktemp("packaging") / "checkout")
    for name in STRAY_FOLDERS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").touch()
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return built("wheel", checkout, checkout.parent / "wheel")


@pytest.fixture(scope="module")
def sdist(checkout: Path) -> Path:
    return built("sdist", checkout, checkout.parent / "sdist")


def test_wheel_holds_one_package(wheel: Path) -> None:
    top = {name.split("/")[0] for name in names_in(wheel)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"dynrefer"}
    assert len(top) == 2


def test_wheel_holds_every_module_and_no_link(wheel: Path) -> None:
    modules = {
        f"dynrefer/{path.relative_to(ROOT).as_posix()}" for part in PARTS for path in (ROOT / part).rglob("*.py")
    }
    names = names_in(wheel)
    assert {name for name in names if name.endswith(".py")} == modules | {"dynrefer/__init__.py"}
    assert not names & {f"dynrefer/{part}" for part in PARTS}  # a link would be a file of that name


def test_wheel_holds_the_data(wheel: Path) -> None:
    data = tuple(ROOT / name for name in DATA)
    expected = {path for folder in data for path in folder.rglob("*") if path.is_file()}
    expected |= {path for pattern in ("*.json", "*.zip") for path in (ROOT / "workbench/scenes").rglob(pattern)}
    expected |= {path for name in ("evidence", "languages") for path in (ROOT / "workbench" / name).glob("*.txt")}
    expected.add(ROOT / "service/api/examples.json")
    assert {path.suffix for path in expected} >= {".safetensors", ".json", ".html", ".js", ".css", ".zip"}
    with zipfile.ZipFile(wheel) as archive:
        for path in expected:
            assert archive.read(f"dynrefer/{path.relative_to(ROOT).as_posix()}") == path.read_bytes()
        others = {name for name in archive.namelist() if name.startswith("dynrefer/") and not name.endswith(".py")}
    assert others == {f"dynrefer/{path.relative_to(ROOT).as_posix()}" for path in expected}


def test_sdist_holds_the_package_as_real_files(sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = {member.name.split("/", 1)[1]: member for member in archive if "/" in member.name}
    assert all(member.isfile() or member.isdir() for member in members.values())
    files = {name for name, member in members.items() if member.isfile()}
    assert {name for name in files if name.startswith("dynrefer/")} == {
        name for name in names_in(wheel) if name.startswith("dynrefer/")
    }
    assert {name for name in files if not name.startswith(("dynrefer/", "dynrefer.egg-info/"))} == {
        *FILES,
        "PKG-INFO",
        "setup.cfg",
    }


def test_wheel_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    again = built("wheel", unpacked, tmp_path / "again")
    assert again.name == wheel.name
    assert names_in(again) == names_in(wheel)


def test_the_image_is_built_without_the_workbench(tmp_path: Path) -> None:
    """In the container's build context the link dynrefer/workbench points to nothing."""
    context = copy_of_checkout(tmp_path / "context", ("model", "service"))
    assert not (context / "dynrefer/workbench").exists()
    names = names_in(built("wheel", context, tmp_path / "wheel"))
    assert {"dynrefer/model/__init__.py", "dynrefer/service/__init__.py"} <= names
    assert not [name for name in names if "workbench" in name]

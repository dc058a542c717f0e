"""The direction of imports that ARCHITECTURE.md draws, and what importing a package must not bring in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICE = sorted(path for path in (ROOT / "service").rglob("*.py") if path.name != "cli.py")
MODEL = sorted((ROOT / "model").rglob("*.py"))
# The public face, its records and its errors. The command line alone may use more, inside its commands.
OPEN_TO_SERVICE = {"model", "model.errors", "model.records"}
BESIDE_THE_PREDICTOR = ("model.training", "model.evaluation", "model.convert", "model.benchmark")


def imports_of(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports anywhere, relative imports resolved."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            found.add(".".join([*base, *([node.module] if node.module else [])]))
    return found


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", SERVICE, ids=lambda path: str(path.relative_to(ROOT)))
def test_service_sees_only_the_public_face_of_the_model(path: Path) -> None:
    assert {name for name in imports_of(path) if under(name, "model")} <= OPEN_TO_SERVICE


def test_command_line_imports_no_more_at_its_top() -> None:
    tree = ast.parse((ROOT / "service" / "cli.py").read_text(encoding="utf-8"))
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name for name in top if name and under(name, "model")} <= OPEN_TO_SERVICE


@pytest.mark.parametrize("path", MODEL, ids=lambda path: str(path.relative_to(ROOT)))
def test_model_never_imports_the_service(path: Path) -> None:
    assert not {name for name in imports_of(path) if under(name, "service")}


@pytest.mark.parametrize("path", MODEL, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_serves_imports_nothing_that_trains(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if any(under(module, package) for package in BESIDE_THE_PREDICTOR):
        return
    assert not {name for name in imports_of(path) if any(under(name, p) for p in BESIDE_THE_PREDICTOR)}


def test_routes_engine_batcher_point_one_way() -> None:
    order = ["service.batcher", "service.engine", "service.routes", "service.app"]
    for rank, module in enumerate(order):
        base = ROOT / Path(*module.split("."))
        files = sorted(base.rglob("*.py")) if base.is_dir() else [base.with_suffix(".py")]
        for path in files:
            above = {name for name in imports_of(path) if any(under(name, higher) for higher in order[rank + 1 :])}
            assert not above, f"{path.name} imports {above}"


@pytest.mark.parametrize("package", ["model", "service", "service.app", "service.cli", "model.views"])
def test_importing_brings_in_no_torch_and_nothing_that_trains(package: str) -> None:
    code = f"import sys, {package}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    unwanted = ("torch", "transformers", *BESIDE_THE_PREDICTOR)
    assert not [name for name in done.stdout.split() if any(under(name, each) for each in unwanted)]


def test_loading_the_model_brings_in_nothing_that_trains_and_no_text_tower_is_run() -> None:
    """And the garbage collector, at rest while torch is imported, is at work again."""
    code = """
import gc, sys
from model import DynRefer
assert gc.isenabled()
from transformers import CLIPTextModelWithProjection
def forbidden(*_, **__): raise AssertionError("texts were encoded")
CLIPTextModelWithProjection.forward = forbidden
DynRefer.load("embedded", device="cpu")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if any(under(name, each) for each in BESIDE_THE_PREDICTOR)]

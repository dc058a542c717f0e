"""The direction of imports that ARCHITECTURE.md draws, and what importing a package must not load.

The rules are read off the files, without importing them; one test lists every break of them at once.
"""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.repository import ROOT

PARTS = ("model", "service", "workbench")
# The public face, its records and its errors.
OPEN_TO_SERVICE = {"dynrefer.model", "dynrefer.model.errors", "dynrefer.model.explanation", "dynrefer.model.types"}
# The command line may use more, inside its commands.
OPEN_INSIDE_COMMANDS = {
    "dynrefer.service.ask_command",
    "dynrefer.service.batch_command",
    "dynrefer.service.cli",
    "dynrefer.service.command_files",
    "dynrefer.service.detect_command",
    "dynrefer.service.reload_command",
    "dynrefer.service.remote_commands",
}
# What the client may import of the service: itself, for it is installed without what serves.
CLIENT = "dynrefer.service.client"
BESIDE_THE_PREDICTOR = ("dynrefer.workbench", "dynrefer.model.convert")
# Whoever stands further down may import whoever stands further up, while its module is loaded; not the other way round.
LAYERS = (
    (
        ("dynrefer.service.errors", "dynrefer.service.context", "dynrefer.service.settings"),
        ("dynrefer.service.observability",),
        ("dynrefer.service.engine.batcher",),
        ("dynrefer.service.workers",),
        ("dynrefer.service.engine.engine",),
        ("dynrefer.service.inputs", "dynrefer.service.server.auth", "dynrefer.service.api.problems"),
        ("dynrefer.service.api.routes",),
        ("dynrefer.service.app",),
        ("dynrefer.service.batch",),
        ("dynrefer.service.server.server", "dynrefer.service.cli"),
    ),
    (
        ("dynrefer.model.errors", "dynrefer.model.gc_pause", "dynrefer.model.records"),
        ("dynrefer.model.tasks",),
        ("dynrefer.model.types",),
        ("dynrefer.model.arguments",),
        ("dynrefer.model.geometry",),
        ("dynrefer.model.exif", "dynrefer.model.orientation"),
        ("dynrefer.model.containers", "dynrefer.model.rgb"),
        ("dynrefer.model.images", "dynrefer.model.views", "dynrefer.model.crops"),
        ("dynrefer.model.preparation",),
        ("dynrefer.model.networks.kernels",),
        ("dynrefer.model.networks.generation",),
        ("dynrefer.model.networks.dynrefer",),
        ("dynrefer.model.loading",),
        ("dynrefer.model.batch",),
        ("dynrefer.model.predictor",),
        ("dynrefer.model.convert",),
    ),
    (
        ("dynrefer.workbench.errors",),
        ("dynrefer.workbench.data",),
        ("dynrefer.workbench.scenes",),
        ("dynrefer.workbench.evaluation",),
        ("dynrefer.workbench.training", "dynrefer.workbench.profiling"),
    ),
)


def module_of(path: Path) -> str:
    """The name under which a file of ours is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    named = (*(("dynrefer",) if parts[0] in PARTS else ()), *parts)
    return ".".join(named[:-1] if named[-1] == "__init__" else named)


def modules_under(*folders: str) -> dict[str, Path]:
    """Name -> file of every module in these folders."""
    return {module_of(path): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


MODULES = modules_under(*PARTS)
FILES = {module: path for module, path in MODULES.items() if path.name != "__init__.py"}
BESIDE_THE_PACKAGE = modules_under("tests", "benchmarks")


def imports_of(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """The modules that a file imports, anywhere in it or at its top; of `from x import y` both x and x.y."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            yield name
            yield from (whole for alias in node.names if (whole := f"{name}.{alias.name}") in MODULES)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def break_of(module: str, name: str) -> str:
    """Which rule it breaks that a module imports this name; empty if none."""
    if name.startswith("."):
        return "imports are written in full"
    if under(name, *PARTS):
        return f"its name is dynrefer.{name}"
    if under(module, "dynrefer.service") and under(name, "dynrefer.model") and name not in OPEN_TO_SERVICE:
        return "the service sees the model's public face alone"
    if under(module, CLIENT) and under(name, "dynrefer.service") and not under(name, CLIENT):
        return "the client knows nothing of what serves"
    serving = under(module, "dynrefer.service") and not under(module, CLIENT) and module not in OPEN_INSIDE_COMMANDS
    if serving and under(name, CLIENT):
        return "what serves does not know the client"
    if under(module, "dynrefer.service") and under(name, "dynrefer.workbench"):
        return "the service does not know the workbench"
    if under(module, "dynrefer.model") and under(name, "dynrefer.service", "dynrefer.workbench"):
        return "the model knows neither service nor workbench"
    if under(module, "dynrefer.workbench") and under(name, "dynrefer.service"):
        return "the workbench does not know the service"
    serves = under(module, "dynrefer.model") and not under(module, *BESIDE_THE_PREDICTOR)
    if serves and under(name, *BESIDE_THE_PREDICTOR):
        return "what serves does not know what trains, converts or measures"
    return ""


def layer_of(module: str) -> tuple[int, int] | None:
    """(which list of LAYERS, how far down in it), if the module is in one."""
    for which, layers in enumerate(LAYERS):
        for depth, packages in enumerate(layers):
            if under(module, *packages):
                return which, depth
    return None


def points_up(module: str, name: str) -> bool:
    """Whether an import goes from a layer to one that is built on it."""
    own, other = layer_of(module), layer_of(name)
    return own is not None and other is not None and own[0] == other[0] and own[1] < other[1]


def breaks() -> Iterator[str]:
    """Every import that goes the wrong way, as a line."""
    for module, path in (MODULES | BESIDE_THE_PACKAGE).items():
        for name in imports_of(path, top_only=module in OPEN_INSIDE_COMMANDS):
            if rule := break_of(module, name):
                yield f"{module} imports {name}: {rule}"
    for module, path in MODULES.items():
        for name in imports_of(path, top_only=True):
            if points_up(module, name):
                yield f"{module} imports {name}: it stands below"
    try:
        TopologicalSorter({m: set(imports_of(p, top_only=True)) & set(MODULES) for m, p in FILES.items()}).prepare()
    except CycleError as error:
        yield "a circle of imports: " + " -> ".join(error.args[1])


def test_every_import_points_down() -> None:
    assert sorted(set(breaks())) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("dynrefer.service.app", "dynrefer.model.predictor"),
        ("dynrefer.service.app", "dynrefer.workbench.training"),
        ("dynrefer.service.app", "service.settings"),
        ("dynrefer.service.app", ".settings"),
        ("dynrefer.service.app", "dynrefer.service.client"),
        ("dynrefer.service.client.client", "dynrefer.service.api.problems"),
        ("dynrefer.service.client.client", "dynrefer.model.predictor"),
        ("dynrefer.model.views", "dynrefer.service.settings"),
        ("dynrefer.model.views", "dynrefer.workbench.scenes"),
        ("dynrefer.model.views", "dynrefer.model.convert"),
        ("dynrefer.workbench.scenes.scene", "dynrefer.service"),
        ("tests.model.test_views", "model.views"),
        ("tests.model.test_views", "service"),
        ("benchmarks.quick", "workbench.profiling"),
    ],
)
def test_the_rules_bite(module: str, name: str) -> None:
    assert break_of(module, name)


def test_the_layers_bite() -> None:
    assert points_up("dynrefer.service.engine.batcher", "dynrefer.service.app")
    assert points_up("dynrefer.workbench.data.labelled", "dynrefer.workbench.evaluation.inference")
    assert not points_up("dynrefer.service.app", "dynrefer.service.engine.batcher")
    assert not points_up("dynrefer.service.app", "dynrefer.workbench.scenes")


@pytest.mark.parametrize(
    "package",
    [
        "dynrefer",
        "dynrefer.model",
        "dynrefer.service",
        "dynrefer.service.app",
        "dynrefer.service.cli",
        "dynrefer.service.client",
        "dynrefer.model.views",
    ],
)
def test_importing_loads_no_torch_and_no_training_library(package: str) -> None:
    code = f"import sys, {package}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [
        name for name in done.stdout.split() if under(name, "torch", "transformers", *PARTS, *BESIDE_THE_PREDICTOR)
    ]


@pytest.mark.slow
def test_a_module_of_the_users_own_does_not_stand_in_for_ours(tmp_path: Path) -> None:
    """A `model.py` beside a notebook must not change our imports."""
    for name in PARTS:
        (tmp_path / f"{name}.py").write_text("raise AssertionError('the wrong module')\n", encoding="utf-8")
    code = "from dynrefer import DynRefer; import dynrefer.service.app; print(DynRefer.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "dynrefer.model.predictor"


@pytest.mark.slow
def test_loading_the_model_imports_no_training_library_and_runs_no_text_tower() -> None:
    """And the garbage collector, paused while torch is imported, runs again."""
    code = """
import gc, sys
from dynrefer import DynRefer
assert gc.isenabled()
from transformers import CLIPTextModelWithProjection
def forbidden(*_, **__): raise AssertionError("texts were encoded")
CLIPTextModelWithProjection.forward = forbidden
DynRefer.load("embedded", device="cpu")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if under(name, *BESIDE_THE_PREDICTOR)]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["dynrefer", "dynrefer.model"])
def test_every_public_name_is_found_at_its_first_use(package: str) -> None:
    """Also those that the package imports only then, so that importing it loads no NumPy."""
    code = f"import sys, {package}; assert 'numpy' not in sys.modules; from {package} import *; print(*vars())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(importlib.import_module(package).__all__) <= set(done.stdout.split())

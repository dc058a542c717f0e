"""The Python scripts in docker/, which is no package, as modules."""

import importlib.util
from types import ModuleType

from tests.repository import ROOT


def docker_script(name: str) -> ModuleType:
    """The module of docker/NAME.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docker" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""Importing transformers without what only compiling, sharding and training need.

transformers' models import torch's compiler (`torch._dynamo`, and sympy with it), its distributed tensors and SciPy:
a third of the time and of the modules of an import, for names that describing regions never calls. All three are
imported through optional or deferrable names, and only these are changed, while the import runs:

- Decorators that tell the compiler something about a function (`torch.compiler.disable` loads it for that): applied
  at the function's first call after the compiler was loaded; before, nobody asks.
- `torch._dynamo`, from which one context manager is imported: a stand-in, which loads the compiler when it is entered.
- whether SciPy and torch.distributed are there: no. What they are for in transformers (losses of detectors, models
  spread over processes) is missing from it in this process, so only processes that serve should import like this.

No torch at import.
"""

import contextlib
import functools
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from dynrefer.model.torch_environment import set_cache_environment

_log = logging.getLogger(__name__)

_COMPILER = "torch._dynamo"
_DECORATORS = ("allow_in_graph", "assume_constant_result")
_DEFERRED = {f"{_COMPILER}._trace_wrapped_higher_order_op": "TransformGetItemToIndex"}


def import_lean(name: str) -> ModuleType:
    """The module of this name, with the parts of transformers that it imports as they are above.

    For processes that serve. Where transformers or the compiler is there already, and where another version of them
    does not bear it, a plain import.
    """
    if "transformers" in sys.modules or _COMPILER in sys.modules:
        return importlib.import_module(name)
    set_cache_environment()
    try:
        with _without_the_compiler():
            _hide_optional_packages()
            for each in ("modeling_utils", "generation.utils"):
                importlib.import_module(f"transformers.{each}")
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:  # of what a later version imports
        _log.debug("a lean import of transformers failed; it is imported whole", exc_info=error)
    return importlib.import_module(name)


@contextlib.contextmanager
def _without_the_compiler() -> Iterator[None]:
    """While it lasts, neither of the two ways to torch's compiler loads it."""
    compiler = importlib.import_module("torch.compiler")
    torch = sys.modules["torch"]
    package = ModuleType(_COMPILER)
    package.__path__ = []  # a package without modules but these
    for name in _DECORATORS:
        setattr(package, name, _once_there_is_a_compiler(_first_used(_COMPILER, name)))
    stand_ins = {_COMPILER: package}
    for module, wanted in _DEFERRED.items():
        stand_ins[module] = ModuleType(module)
        setattr(stand_ins[module], wanted, _first_used(module, wanted))
    disable = compiler.disable
    sys.modules.update(stand_ins)
    compiler.disable = _once_there_is_a_compiler(disable)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        compiler.disable = disable  # type: ignore[attr-defined]
        for module, stand_in in stand_ins.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]
        if vars(torch).get("_dynamo") is package:
            del torch._dynamo


def _first_used(module: str, name: str) -> Callable[..., Any]:
    """What calls the name of that module, and imports the module for it."""

    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*arguments, **named)

    return call


def _once_there_is_a_compiler(decorator: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator, applied when the decorated function is first called after the compiler was loaded."""

    def decorate(fn: Callable[..., Any] | None = None, *arguments: Any, **named: Any) -> Any:
        if fn is None:
            return lambda function: decorate(function, *arguments, **named)
        decorated = functools.cache(lambda: decorator(fn, *arguments, **named))

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return (decorated() if hasattr(sys.modules.get(_COMPILER), "__file__") else fn)(*args, **kwargs)

        return call

    return decorate


def _hide_optional_packages() -> None:
    """Let transformers take SciPy and torch.distributed for absent.

    Its two answers are kept by functions with a cache: each is asked once while the package is hidden, for
    microseconds, because other threads import too. The answers stay, as what was imported by them does.
    """
    importlib.import_module("transformers")
    asked = importlib.import_module("transformers.utils.import_utils")
    distributed = importlib.import_module("torch.distributed")
    answers = [asked.is_scipy_available, asked.is_torch_distributed_available]
    for answer in answers:
        answer.cache_clear()
    available = distributed.is_available
    hidden = "scipy" not in sys.modules
    distributed.is_available = lambda: False  # type: ignore[attr-defined]
    if hidden:
        sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        for answer in answers:
            answer()
    finally:
        distributed.is_available = available  # type: ignore[attr-defined]
        if hidden:
            del sys.modules["scipy"]

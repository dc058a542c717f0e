"""Importing the predictor without what only compiling, sharding and training need."""

import subprocess
import sys

from dynrefer.model import import_lean
from tests.repository import ROOT

NOT_FOR_SERVING = (
    "scipy",
    "sklearn",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.tensor",
    "torch.onnx",
    "onnxruntime.quantization",
    "dynrefer.workbench",
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_serving_loads_neither_the_compiler_nor_distributed_tensors() -> None:
    found = run(f"""
import sys, numpy
from dynrefer.model import import_lean
import_lean("dynrefer.model.predictor")
assert "sympy" not in sys.modules
from dynrefer import DynRefer
DynRefer.load("embedded", device="cpu").describe(numpy.zeros((64, 64, 3), numpy.uint8), [(16, 16, 48, 48)])
print([name for name in {NOT_FOR_SERVING!r} if name in sys.modules])
""")
    assert found == "[]"


def test_the_compiler_and_scipy_can_be_imported_afterwards() -> None:
    found = run("""
from dynrefer.model import import_lean
import_lean("dynrefer.model.predictor")
import scipy, torch
import torch._dynamo, torch.distributed
from transformers.generation.continuous_batching import cache
from transformers.masking_utils import TransformGetItemToIndex
with TransformGetItemToIndex():
    pass
print(torch.distributed.is_available(), torch._dynamo.__file__ is not None, torch.compiler.disable.__module__)
print(torch.compiler.disable(lambda: 3)())
""")
    assert found.split() == ["True", "True", "torch.compiler", "3"]


def test_a_version_that_does_not_bear_it_is_imported_whole() -> None:
    found = run("""
from dynrefer.model import lean_imports
lean_imports._DECORATORS = ()  # as if transformers used a name that has no stand-in
lean_imports.import_lean("dynrefer.model.predictor")
import sys, transformers
print("torch._dynamo" in sys.modules, hasattr(transformers, "T5ForConditionalGeneration"))
""")
    assert found.split() == ["True", "True"]


def test_beside_an_imported_transformers_it_is_a_plain_import() -> None:
    import transformers

    module = import_lean("dynrefer.model.predictor")
    assert module is sys.modules["dynrefer.model.predictor"] and transformers.__version__

"""The crops that the evidence looks at."""

import pickle
import subprocess
import sys

import numpy as np

from dynrefer.model.evidence.cutting import EvidenceCutter
from dynrefer.model.preparation import PreparationSpec, prepare
from dynrefer.model.types import RegionQuery
from tests.repository import ROOT

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
SPEC = PreparationSpec(3, 64, {"caption": (0.0, 0.4, 0.7), "tags": (0.0, 0.2, 0.7)}, evidence=True)


def test_an_image_is_cut_once_for_all_of_its_regions() -> None:
    cutter = EvidenceCutter(IMAGE)
    one, two, whole = (cutter.cut(box) for box in ((0, 0, 20, 30), (40.0, 10.0, 80.0, 60.0), (0, 0, 80, 60)))
    assert one.image is two.image is whole.image is whole.crop
    assert (one.coverage, whole.coverage) == (20 * 30 / 4800, 1.0)
    assert one.place == (0, 0, 224, 224) and cutter.cut((0, 0, 80, 10)).place[1] > 0
    assert one.windows.shape[0] == one.boxes.shape[0] == 2


def test_the_inputs_of_a_region_share_its_crops() -> None:
    query = RegionQuery((5.0, 5.0, 40.0, 40.0), tasks=("caption", "tags"))  # type: ignore[arg-type]
    first, second = prepare(IMAGE, [query], SPEC)[0].inputs
    assert first.evidence is second.evidence is not None
    again = pickle.loads(pickle.dumps(first.evidence))
    assert np.array_equal(again.crop, first.evidence.crop) and again.place == first.evidence.place


def test_preparation_needs_neither_torch_nor_onnx_runtime() -> None:
    code = """
import sys, numpy as np
from dynrefer.model.preparation import PreparationSpec, prepare
from dynrefer.model.types import RegionQuery
spec = PreparationSpec(3, 64, {}, evidence=True)
region = prepare(np.zeros((50, 50, 3), np.uint8), [RegionQuery((1, 1, 20, 20), views=(0.0, 0.1, 0.2))], spec)[0]
assert region.inputs[0].evidence is not None
print(sorted({"torch", "onnxruntime"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

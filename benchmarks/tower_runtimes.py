"""The medium preset's vision tower by ONNX Runtime and by OpenVINO beside this program's own kernels, on a CPU.

    .venv/bin/python -m pip install onnx onnxscript onnxruntime openvino
    .venv/bin/python -m benchmarks.tower_runtimes [--threads 2] [--rounds 5]

The same random weights and the same views. All ways run in turn in one process, in another order every round: a ratio
is the median of the rounds' ratios to the own kernels in float32, above 1 where a runtime is faster. An error is the
largest difference from the own kernels in float32, as a part of the largest value. Start and memory of a runtime are
those of reading its file and compiling it. Writes results/tower_runtimes.json.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import importlib.util
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.dynrefer.vision import normalise
from dynrefer.model.networks.kernels.choice import choose_kernels
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

RESULT = Path(__file__).parent / "results" / "tower_runtimes.json"
OWN = "own float32"
PACKAGES = ("onnx", "onnxscript", "onnxruntime", "openvino")
OPSET = 23  # the first that has attention as one operator

Tower = Callable[[Tensor], Tensor]
"""Views (N, 3, S, S) uint8 -> feature map (N, C, H, W) float32."""


class _Map(nn.Module):
    """The tower with its feature map as the only output, for export."""

    def __init__(self, vision: nn.Module) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, S, S) float32, normalised -> (N, C, H, W)."""
        found: Tensor = self.vision(pixels).map
        return found


def export(network: DynReferModel, path: Path) -> None:
    """Write the tower as ONNX for any number of views. network: float32, with transformers' own layers."""
    pixels = torch.zeros(2, 3, network.config.view_size, network.config.view_size)
    views = {0: torch.export.Dim("views")}
    torch.onnx.export(
        _Map(network.vision).eval(),
        (pixels,),
        path,
        input_names=["pixels"],
        output_names=["map"],
        dynamic_shapes={"pixels": views},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )


def own(network: DynReferModel, dtype: torch.dtype) -> Tower:
    """The tower as this program runs it, in `dtype`; the network is copied."""
    used = copy.deepcopy(network)
    used.vision.to(dtype)
    choose_kernels(used, torch.device("cpu"))

    def run(images: Tensor) -> Tensor:
        return used.encode_in_parts(images).map.float()

    return run


def by_onnxruntime(path: Path, threads: int, pixels: Tower) -> Tower:
    """A session of the file at `path`. pixels: normalises views."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads disturb what runs next
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (found,) = session.run(None, {"pixels": pixels(images).numpy()})
        return torch.from_numpy(found)

    return run


def by_openvino(path: Path, threads: int, pixels: Tower, precision: str) -> Tower:
    """A compiled model of the file at `path`. pixels: normalises views. precision: f32 or bf16, of its products."""
    openvino = importlib.import_module("openvino")  # the reader's to install, as the first lines say

    wanted = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.compile_model(path, "CPU", wanted).create_infer_request()

    def run(images: Tensor) -> Tensor:
        given = openvino.Tensor(pixels(images).numpy(), shared_memory=True)
        request.infer([given], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run


def resident_mib() -> float:
    """Memory of this process that is in use, MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def started(make: Callable[[], Tower], images: Tensor) -> tuple[Tower, dict[str, float]]:
    """A tower, with seconds and memory of making it and of its first run on `images`."""
    before, begun = resident_mib(), time.perf_counter()
    tower = make()
    made = time.perf_counter()
    tower(images)
    return tower, {
        "start_s": round(made - begun, 2),
        "first_run_s": round(time.perf_counter() - made, 2),
        "memory_mib": round(resident_mib() - before, 1),
    }


def compare(towers: Mapping[str, Tower], images: Tensor, rounds: int) -> list[dict[str, Any]]:
    """One row per tower: median milliseconds, ratio to the own kernels, error. One round more warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in towers}
    found: dict[str, Tensor] = {}
    shuffled, order = random.Random(0), list(towers)
    for number in range(rounds + 1):
        shuffled.shuffle(order)
        for name in order:
            begun = time.perf_counter()
            found[name] = towers[name](images)
            if number:
                seconds[name].append(time.perf_counter() - begun)
            time.sleep(0.02)  # the threads of one way are asleep before the next begins
    reference = found[OWN]
    rows = []
    for name, each in seconds.items():
        ratios = [mine / theirs for mine, theirs in zip(seconds[OWN], each, strict=True)]
        row: dict[str, Any] = {
            "views": len(images),
            "way": name,
            "ms": round(statistics.median(each) * 1000, 1),
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "error": float(f"{(found[name] - reference).abs().max() / reference.abs().max():.2g}"),
        }
        print("{views:3} views  {way:18} {ms:8.1f} ms  {ratio:.2f} x  error {error:.1e}".format(**row), file=sys.stderr)
        rows.append(row)
    return rows


def measure(views: Sequence[int], threads: int, rounds: int) -> dict[str, Any]:
    """The whole report."""
    torch.set_num_threads(threads)
    network = random_network(random_config("medium", Workload()), torch.device("cpu"), torch.float32)
    weights = sum(each.nbytes for each in network.vision.parameters())
    side = network.config.view_size
    images = torch.randint(0, 256, (max(views), 3, side, side), generator=torch.Generator().manual_seed(1)).byte()

    def pixels(some: Tensor) -> Tensor:
        return normalise(some, network.image_mean, network.image_std, torch.float32)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        begun = time.perf_counter()
        export(network, path)
        exported = {
            "seconds": round(time.perf_counter() - begun, 1),
            "file_mib": round(sum(each.stat().st_size for each in Path(folder).iterdir()) / 2**20, 1),
            "weights_mib": round(weights / 2**20, 1),
        }
        makers: dict[str, Callable[[], Tower]] = {
            "ONNX Runtime": lambda: by_onnxruntime(path, threads, pixels),
            "OpenVINO float32": lambda: by_openvino(path, threads, pixels, "f32"),
            "OpenVINO bfloat16": lambda: by_openvino(path, threads, pixels, "bf16"),
        }
        towers = {OWN: own(network, torch.float32), "own bfloat16": own(network, torch.bfloat16)}
        starts = {}
        with torch.inference_mode():
            for name, make in makers.items():
                towers[name], starts[name] = started(make, images[: min(views)])
                print(name, starts[name], file=sys.stderr)
            rows = [row for count in views for row in compare(towers, images[:count], rounds)]
    return {
        **provenance(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "rounds": rounds,
        "export": exported,
        "starts": starts,
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tower_runtimes", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--views", type=int, nargs="+", default=[3, 8, 24], help="[3 8 24]")
    parser.add_argument("--threads", type=int, default=2, help="of every way [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each way [%(default)s]")
    parser.add_argument("--out", type=Path, default=RESULT, help="[benchmarks/results/tower_runtimes.json]")
    given = parser.parse_args(arguments)
    if min(*given.views, given.threads, given.rounds) < 1:
        parser.error("--views, --threads and --rounds must be at least 1.")
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        parser.error(f"not installed: {', '.join(missing)} (python -m pip install {' '.join(missing)}).")
    text = json.dumps(measure(given.views, given.threads, given.rounds), indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""What a network computes on its device, as a name: where it is the same, so are the bits of what is computed.

For representations that processes share (`shared_cache.py`). A revision is what a configuration says of itself, and the
last bits of a product depend on more than the weights: on the library, on the processor's instructions, on the number
of threads. So beside all that has a name, the fingerprint holds what cannot be named: some numbers of each tensor,
and on a CPU the bits of one region's representation, computed here. Two machines that differ in anything that matters
find nothing of each other, which costs time and no answer.

On a GPU the last bits depend on the batch too, so that one region's would say nothing, and are left out: there the name
of the GPU and the versions of the libraries have to do.
"""

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.kernels.transfers import to_device

SAMPLES = 64  # numbers of each tensor


@torch.inference_mode()
def fingerprint(loaded: LoadedModel) -> str:
    """The revision as far as it suits a key, and 32 hexadecimal digits. Runs the network once on a CPU."""
    network, config = loaded.network, loaded.network.config
    named = {
        "code": _code_version(),
        "revision": config.revision,
        "configuration": _without_paths(config.to_dict()),
        "dtype": str(loaded.dtype),
        "torch": torch.__version__,
        **_of_device(loaded.device),
    }
    digest = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode())
    digest.update(_samples(network))
    if loaded.device.type == "cpu":
        digest.update(_bits(representation_of_noise(loaded)))
    revision = re.sub(r"[^A-Za-z0-9._-]", "_", config.revision)[:32]
    return f"{revision}:{digest.hexdigest()[:32]}"


def representation_of_noise(loaded: LoadedModel) -> Tensor:
    """Of one region whose views are noise, the same every time: (1, Q, C)."""
    views, side = loaded.network.config.num_views, loaded.network.config.view_size
    noise = np.random.default_rng(0).integers(0, 256, (views, 3, side, side), np.uint8)
    boxes = np.array([[side / (place + 3), side / 4, side / 2 + place, side - 1] for place in range(views)], np.float32)
    features = loaded.inference.encode(to_device(list(noise), loaded.device))
    return loaded.inference.represent(features, to_device([boxes], loaded.device))


def _of_device(device: torch.device) -> dict[str, object]:
    if device.type == "cuda":
        return {
            "device": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return {
        "device": device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _samples(network: nn.Module) -> bytes:
    """Some numbers of each tensor, from all over it, with its name and shape."""
    parts = []
    for name, tensor in network.state_dict().items():
        flat = tensor.flatten()
        some = flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES]
        parts.append(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode() + _bits(some))
    return b"".join(parts)


def _bits(values: Tensor) -> bytes:
    """Of any dtype, NumPy's or not."""
    found: bytes = values.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return found


def _without_paths(settings: dict[Any, Any]) -> dict[Any, Any]:
    """Without what says where a model lies and which library wrote it."""
    return {
        name: _without_paths(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if not str(name).startswith("_") and name != "transformers_version"
    }


def _code_version() -> str:
    try:
        return version("dynrefer")
    except PackageNotFoundError:  # run from a folder
        return "unknown"

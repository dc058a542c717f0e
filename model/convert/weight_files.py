"""Weights on disk: reading foreign files tensor by tensor, writing safetensors shards.

Only the tensor being read and the shard being written are in memory.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConversionError

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 4_000_000_000
_WRAPPERS = ("model", "state_dict", "module")  # what training code puts a state dict under
_PICKLED = (".pth", ".pt", ".bin")


class WeightFile:
    """One file of weights. shapes: name -> shape, known without reading a tensor where the format allows it."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor]) -> None:
        self.path, self.shapes, self._read = path, shapes, read

    def read(self, name: str) -> Tensor:
        """The tensor of this name."""
        return self._read(name)


def open_weights(path: Path) -> WeightFile:
    """Open a .safetensors, .pth, .pt or .bin file. Raises `ConversionError`, naming the file and what is wrong."""
    if not path.is_file():
        raise ConversionError(f"there is no weight file {path}.")
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in _PICKLED:
        return _open_pickled(path)
    raise ConversionError(f"{path} is no weight file that can be read; give .safetensors, {', '.join(_PICKLED)}.")


def open_directory(directory: Path) -> list[WeightFile]:
    """The weight files of a Hugging Face directory, safetensors rather than pickles; none if it holds none."""
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if found := sorted(directory.glob(pattern)):
            return [open_weights(path) for path in found]
    return []


def _open_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ConversionError(f"{path} is not a readable safetensors file: {error}.") from error
    names: list[str] = file.keys()  # type: ignore[no-untyped-call]
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}  # type: ignore[no-untyped-call]
    return WeightFile(path, shapes, file.get_tensor)


def _open_pickled(path: Path) -> WeightFile:
    import torch

    # Only zip archives can be mapped; `weights_only` keeps a pickle from running code.
    mapped = zipfile.is_zipfile(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ConversionError(f"{path} is not a readable weight file: {reason}.") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds no state dict but a {type(content).__name__}.")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ConversionError(f"{path} holds {name!r}, which is no tensor but a {type(value).__name__}.")
    return WeightFile(path, {name: tuple(value.shape) for name, value in content.items()}, content.__getitem__)


def write_shards(
    directory: Path,
    names: Iterable[str],
    assemble: Callable[[str], Tensor],
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Write tensors as model.safetensors, or as shards with an index, as transformers reads them.

    assemble: name -> tensor. Returns the first 12 digits of a SHA-256 over names and bytes: the weights' revision.
    """
    from safetensors.torch import save_file

    digest, shards, shard = hashlib.sha256(), _Shards(directory), dict[str, "Tensor"]()
    size = 0
    for name in names:
        tensor = assemble(name).contiguous()
        digest.update(name.encode())
        digest.update(_bytes(tensor))
        if shard and size + tensor.nbytes > shard_bytes:
            save_file(shard, shards.next(shard), metadata={"format": "pt"})
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    save_file(shard, shards.next(shard), metadata={"format": "pt"})
    shards.finish()
    return digest.hexdigest()[:12]


def _bytes(tensor: Tensor) -> memoryview:
    import torch

    return tensor.detach().flatten().view(torch.uint8).numpy().data  # bfloat16 has no type in NumPy


class _Shards:
    """File names of the shards, which are known only when the last one is written, and their index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: list[tuple[Path, tuple[str, ...], int]] = []

    def next(self, shard: Mapping[str, Tensor]) -> Path:
        path = self.directory / f"shard-{len(self.files)}.safetensors"
        self.files.append((path, tuple(shard), sum(tensor.nbytes for tensor in shard.values())))
        return path

    def finish(self) -> None:
        if len(self.files) == 1:
            self.files[0][0].rename(self.directory / "model.safetensors")
            return
        places = dict[str, str]()
        for number, (path, names, _) in enumerate(self.files, start=1):
            final = path.rename(self.directory / f"model-{number:05}-of-{len(self.files):05}.safetensors")
            places |= dict.fromkeys(names, final.name)
        index = {"metadata": {"total_size": sum(size for *_, size in self.files)}, "weight_map": places}
        (self.directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")

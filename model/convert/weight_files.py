"""Weights on disk: reading foreign files tensor by tensor, writing safetensors shards.

Only the tensor being read and the shard being written are in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.errors import ConversionError, ModelError
from dynrefer.model.model_files import read_header

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 4_000_000_000
_WRAPPERS = ("model", "state_dict", "module")  # what training code puts a state dict under
_PICKLED = (".pth", ".pt", ".bin")
_START_BYTES = 512  # of a file, by which its kind is told
_PICKLE, _ZIP = b"\x80", b"PK\x03\x04"  # how a pickle of protocol 2 and later, and a ZIP archive, begin
# The class of an object that torch refuses, in its own message.
_REFUSED = re.compile(r"(?:Unsupported global:|unsupported) GLOBAL ([\w.]+)")


class WeightFile:
    """One file of weights. shapes: name -> shape, known without reading a tensor where the format allows it."""

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], Tensor]) -> None:
        self.path, self.shapes, self._read = path, shapes, read

    def read(self, name: str) -> Tensor:
        """The tensor of this name."""
        return self._read(name)


def open_weights(path: Path) -> WeightFile:
    """Open a .safetensors, .pth, .pt or .bin file. Raises `ConversionError`, naming the file and what is wrong."""
    if path.is_dir():
        raise ConversionError(f"{path} is a folder; give the weight file in it.")
    if not path.exists():
        raise ConversionError(f"there is no weight file {path}.")
    if path.suffix not in (".safetensors", *_PICKLED):
        raise ConversionError(f"{path} is no weight file that can be read; give .safetensors, {', '.join(_PICKLED)}.")
    start = _start(path)
    if foreign := _foreign_content(start):
        raise ConversionError(f"{path} {foreign}.")
    is_safetensors = start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8
    if path.suffix == ".safetensors":
        if not is_safetensors:
            raise ConversionError(f"{path} is not a readable safetensors file: it does not begin with a header.")
        return _open_safetensors(path)
    if is_safetensors:
        raise ConversionError(f"{path} looks like a safetensors file; name it .safetensors.")
    return _open_pickled(path, start)


def open_directory(directory: Path) -> list[WeightFile]:
    """The weight files of a Hugging Face directory, safetensors rather than pickles; none if it holds none."""
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if found := sorted(directory.glob(pattern)):
            return [open_weights(path) for path in found]
    return []


def _start(path: Path) -> bytes:
    """The first bytes of a regular file, which is not empty."""
    if not path.is_file():
        raise ConversionError(f"{path} is no regular file.")
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {os.strerror(error.errno or 0).lower()}.") from error
    if not start:
        raise ConversionError(f"{path} is empty; was its download interrupted?")
    return start


def _foreign_content(start: bytes) -> str | None:
    """What a download left in place of the weights, as the rest of a sentence; None where it is nothing known."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch them with: git lfs pull"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "is a web page, not the weights; download the file itself"
    return None


def _open_safetensors(path: Path) -> WeightFile:
    from safetensors import safe_open

    try:
        shapes = {name: tensor.shape for name, tensor in read_header(path, "weight file").items()}
        file = safe_open(path, framework="pt")
    except ModelError as error:
        raise ConversionError(f"{path} is not a readable safetensors file; is it complete?") from error
    return WeightFile(path, shapes, file.get_tensor)


def _open_pickled(path: Path, start: bytes) -> WeightFile:
    import torch

    content = _unpickled(path, is_archive=_is_archive(path, start))
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise ConversionError(f"{path} holds no state dict but an object of the type {type(content).__name__}.")
    if not content:
        raise ConversionError(f"{path} holds an empty state dict.")
    for name, value in content.items():
        if not isinstance(name, str):
            raise ConversionError(f"{path} holds a tensor under {name!r:.40}, which is no name.")
        if not isinstance(value, torch.Tensor):
            raise ConversionError(
                f"{path} holds {name[:80]!r}, which is no tensor but of the type {type(value).__name__}."
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_nested:
            raise ConversionError(f"{path} holds {name[:80]!r}, a sparse, nested or quantised tensor; store it dense.")
    return WeightFile(path, {name: tuple(value.shape) for name, value in content.items()}, content.__getitem__)


def _is_archive(path: Path, start: bytes) -> bool:
    """Whether this is a ZIP archive of torch's, or else a pickle; `ConversionError` if it is neither."""
    if start.startswith(_PICKLE):
        return False
    if not start.startswith(_ZIP):
        raise ConversionError(f"{path} is not a readable weight file: torch.save writes no such file.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # of a damaged directory the module raises what it meets: struct.error, ValueError, ...
        raise ConversionError(f"{path} is not a readable weight file: it is cut short or damaged.") from error
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise ConversionError(f"{path} is a ZIP archive without weights of torch; unpack it and give the file in it.")
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise ConversionError(f"{path} is a TorchScript archive; load it and save its state_dict() with torch.save.")
    # torch stores its records as they are; a compressed one could be of any size once it is unpacked.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ConversionError(f"{path} is a compressed ZIP archive, which torch.save does not write.")
    return True


def _unpickled(path: Path, is_archive: bool) -> object:
    import torch

    try:
        with warnings.catch_warnings():  # about torch's own old formats
            warnings.simplefilter("ignore")
            # Only archives can be mapped; `weights_only` keeps a pickle from running code.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # on damaged pickles torch raises what it meets: IndexError, KeyError, struct.error, ...
        if refused := _REFUSED.search(str(error)):
            raise ConversionError(_sentence_on(path, refused[1])) from error
        if "Unsupported operand" in str(error):  # of pickle's protocols 4 and 5, or of a damaged file
            raise ConversionError(
                f"{path} is not a readable weight file: it is damaged, or pickled with a protocol that is not read; "
                "save it again with the default protocol of torch.save."
            ) from error
        raise ConversionError(
            f"{path} is not a readable weight file: it is cut short, damaged or not written by torch.save."
        ) from error


def _sentence_on(path: Path, kind: str) -> str:
    """On an object beside the weights whose class torch does not load without running code of the file."""
    what = "a NumPy number or array" if kind.startswith("numpy.") else f"an object of {kind[:80]}"
    return (
        f"{path} holds {what}, which is not read because a file could run code that way; "
        'save the weights alone where you trust it: torch.save(checkpoint["model"], "weights.pth").'
    )


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

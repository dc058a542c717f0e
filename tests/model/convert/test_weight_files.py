"""Whatever is no checkpoint is refused in one sentence of our own, whatever the libraries would say of it."""

import argparse
import datetime
import gzip
import io
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dynrefer.model.convert.weight_files import open_weights
from dynrefer.model.errors import ConversionError

STATE = {"a.weight": torch.ones(2, 2)}
ENDINGS = ("pth", "pt", "bin", "safetensors")
LIBRARY_WORDS = ("weights_only", "torch.load", "PyTorch", "\x1b", "miniz", "Traceback")


def refused(path: Path, *words: str) -> None:
    """Opening the file ends in one short sentence with these words, and with no advice of a library's."""
    with pytest.raises(ConversionError) as caught:
        open_weights(path)
    sentence = str(caught.value)
    assert str(path) in sentence and all(word in sentence for word in words), sentence
    assert "\n" not in sentence and sentence.endswith((".", "?")) and len(sentence) < len(str(path)) + 300, sentence
    assert not any(word in sentence for word in LIBRARY_WORDS), sentence


def saved(folder: Path, content: object, **options: Any) -> Path:
    """What torch.save writes."""
    path = folder / "weights.pth"
    torch.save(content, path, **options)
    return path


def archive(folder: Path, records: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "weights.pth"
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_are_read(legacy: bool, tmp_path: Path) -> None:
    content = {"model": STATE, "epoch": 3, "seen": Counter("aab"), "device": torch.device("cpu")}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    assert open_weights(path).shapes == {"a.weight": (2, 2)}
    path = saved(tmp_path, content, pickle_protocol=4, _use_new_zipfile_serialization=not legacy)
    refused(path, "save it again with the default protocol")


FOREIGN = {
    "nothing": (b"", "is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html><html>quota exceeded</html>\n", "web page"),
    "page behind blanks": (b"\xef\xbb\xbf\n\n <html>", "web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    "text": (b"the weights are on the other disk\n", ""),
    "comma": (b"a,b\n1,2\n", ""),
    "h": (b"hello\n", ""),
    "json": (b'{"model": 1}\n', ""),
    "json behind eight letters": (b'1234567 {"a": 1}', ""),
    "number": (b"9" * 100_000, ""),
    "blank": (b"\n", ""),
    "accents": ("Gewichte für das Modell\n".encode(), ""),
    "python": (b"import torch\n", ""),
    "gzip": (gzip.compress(b"weights" * 100), ""),
    "zeros": (bytes(5000), ""),
    "pickle's first byte": (b"\x80", ""),
    "zip's first bytes": (b"PK\x03\x04", "cut short or damaged"),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("content", "word"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_weights_at_all(content: bytes, word: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(content)
    refused(path, *([] if ending == "safetensors" and "cut short" in word else [word]))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("content", [[1], STATE, "text", os.system, np.zeros(4), ValueError("x")], ids=lambda _: "")
def test_pickles_of_other_things(content: object, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(content, protocol))
    refused(path)


def test_a_pickled_number_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(1 << 1_000_000, 2))
    refused(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("beside", "words"),
    [
        (np.float64(0.5), ("NumPy",)),
        (np.zeros(3), ("NumPy",)),
        (argparse.Namespace(lr=1), ("argparse.Namespace",)),
        (Path("x"), ("pathlib.",)),
        (datetime.datetime(2024, 1, 1), ("datetime.datetime",)),
        (print, ("print",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_beside_the_weights(beside: object, words: tuple[str, ...], legacy: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": STATE, "extra": beside}, _use_new_zipfile_serialization=not legacy)
    refused(path, *words, 'torch.save(checkpoint["model"]')


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (5, "no state dict"),
        (None, "no state dict"),
        ([torch.ones(2)], "no state dict"),
        (torch.ones(2), "no state dict"),
        ({}, "empty"),
        ({1: torch.ones(2)}, "no name"),
        ({"epoch": 3}, "no tensor"),
        ({"a": torch.eye(2).to_sparse()}, "sparse"),
    ],
    ids=str,
)
def test_saved_values_that_are_no_state_dict(content: object, word: str, tmp_path: Path) -> None:
    refused(saved(tmp_path, content), word)


def test_archives_of_other_things(tmp_path: Path) -> None:
    refused(archive(tmp_path, {"notes.txt": b"x"}), "ZIP archive without weights")
    refused(archive(tmp_path, {"archive/data.pkl": bytes(10)}), "not a readable weight file")
    refused(archive(tmp_path, {"m/data.pkl": b"", "m/constants.pkl": b""}), "TorchScript")
    # Unpacked it would have 100 MB.
    refused(archive(tmp_path, {"archive/data.pkl": bytes(10**8)}, zipfile.ZIP_DEFLATED), "compressed")
    with tarfile.open(tmp_path / "weights.bin", "w") as file:
        file.add(tmp_path / "weights.pth")
    refused(tmp_path / "weights.bin")


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / "folder.pth", "is a folder")
    refused(tmp_path / "pipe.pth", "no regular file")
    refused(tmp_path / "link.pth", "no weight file")


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    """Cut at any byte, and with any byte changed, a file is refused in one sentence or still holds what it did."""
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        saved(tmp_path, STATE, _use_new_zipfile_serialization=kind == "archive")
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.4 else whole)
        for _ in range(chance.choice((1, 1, 4))):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            open_weights(path)
        except ConversionError:
            refused(path)


HEADERS = {
    "huge": '{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}',
    "overflowing": '{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,16]}}',
    "negative": '{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}',
    "unknown type": '{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}',
    "wrong type": '{"a":5}',
    "metadata": '{"__metadata__":5}',
    "not covered": "{}",
    "other offsets": '{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_headers_that_lie(header: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(16))
    refused(path, "not a readable safetensors file")


@pytest.mark.parametrize("length", [0, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_header_of_a_length_that_the_file_does_not_have(length: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b'{"a":1}' + bytes(16))
    refused(path, "not a readable safetensors file")


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "name it .safetensors")
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    (tmp_path / "weights.safetensors").write_bytes(buffer.getvalue())
    refused(tmp_path / "weights.safetensors", "not a readable safetensors file")

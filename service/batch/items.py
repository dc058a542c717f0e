"""One image and what is asked about it: the unit that a batch run answers, journals and fails alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Digest = bytes  # of an item, 16 bytes
Line = dict[str, Any]  # an item's answer, or why there is none

# By ending; what a file really holds is found out when it is decoded.
IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif", ".tif", ".tiff", ".heic", ".heif")
)


@dataclass(frozen=True, slots=True)
class Item:
    """file: the image as the input names it, with `/` between folders. image: where it is, or its bytes.

    request: fields of POST /v1/describe, its `regions` among them; empty where regions are to be found. labels: what
    the input calls each region, in their order; empty where it calls none. id: what the input calls the image besides.
    flaw: why the input's words about this image make no question, as a sentence; empty where they do.
    """

    file: str
    image: Path | bytes
    request: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str | None, ...] = ()
    id: int | str | None = None
    flaw: str = ""

    @property
    def num_regions(self) -> int:
        """How many regions it brings; 0 where they are to be found."""
        regions = self.request.get("regions")
        return len(regions) if isinstance(regions, list) else 0

    @property
    def digest(self) -> Digest:
        """The same for the same image name and question, in any run and in any order of the input."""
        asked = [self.file, self.request, self.labels, self.id, self.flaw]
        found = hashlib.blake2b(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode(), digest_size=16)
        if isinstance(self.image, bytes):
            found.update(self.image)
        return found.digest()


class ItemSource(Protocol):
    """Where items come from."""

    @property
    def format(self) -> str:
        """The format's name, for messages."""

    def items(self) -> Iterator[Item]:
        """All items in the order of the input, made as they are asked for; every call begins anew.

        Raises BatchError where the input cannot be read.
        """


def image_files(folder: Path) -> list[Path]:
    """The images in a folder at all depths, in an order that does not depend on the file system."""
    found = (each for each in folder.rglob("*") if each.suffix.lower() in IMAGE_ENDINGS)
    return sorted((each for each in found if each.is_file()), key=lambda each: each.relative_to(folder).parts)


def path_inside(file: str) -> Path:
    """The name of an image as a path that stays in the folder it is put into."""
    return Path(*[part for part in Path(file).parts if part not in ("..", "/")])


def link_image(image: Path, place: Path) -> None:
    """Give an image a second name in a data set, if there is such an image; folders of the place are made.

    A hard link, since readers of data sets refuse links that lead out of their folder; a symbolic one where the place
    is on another file system.
    """
    if not image.is_file():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.hardlink_to(image.resolve())
    except OSError:
        place.symlink_to(image.resolve())


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Every image of a folder, in which regions are to be found."""

    folder: Path
    format: str = "images"

    def items(self) -> Iterator[Item]:
        """See `ItemSource`."""
        for file in image_files(self.folder):
            yield Item(file.relative_to(self.folder).as_posix(), file)

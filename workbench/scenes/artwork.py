"""Icon artwork: the npm packages that it comes from, its rendering, and the pack of sprites that ships.

    python -m dynrefer.workbench.scenes.artwork install   # npm-installs the pinned packages into the artwork folder
    python -m dynrefer.workbench.scenes.artwork pack      # renders the shipped styles into sprites.zip

The artwork folder is `art_folder()`; both commands take another with --cache DIR. A sprite id is "style/icon". Licences
and authors are in `world.json` and NOTICE.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import ModelError
from dynrefer.workbench.scenes.world import HERE, World

SPRITE_SIDE = 96  # pixels, the longest side of a sprite
PACK_FILE = HERE / "sprites.zip"
ART_FOLDER_VARIABLE = "DYNREFER_ART_CACHE"
_EDGE = 24  # alpha, of 255, from which a pixel belongs to the sprite


class SpritesError(ModelError):
    """The pack of sprites is missing or damaged; names the file and the fix."""


class SpritePack(Mapping[str, NDArray[np.uint8]]):
    """sprite id -> (h, w, 4) uint8 RGBA, cropped tight to its alpha, longest side at most 96 px."""

    def __init__(self, images: Mapping[str, NDArray[np.uint8]]) -> None:
        self._images = dict(images)

    @classmethod
    def load(cls, path: Path | None = None) -> SpritePack:
        """Read a pack, by default the `sprites.zip` that ships. Raises `SpritesError` where it cannot be read."""
        file = path or PACK_FILE
        images: dict[str, NDArray[np.uint8]] = {}
        try:
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    with Image.open(io.BytesIO(archive.read(name))) as image:
                        images[name.removesuffix(".webp")] = np.asarray(image.convert("RGBA"))
        except (OSError, zipfile.BadZipFile) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "it is damaged"
            raise SpritesError(
                f"the sprites that scenes are drawn with cannot be read from {file}: {reason}; reinstall dynrefer, or "
                "restore the file from its sources."
            ) from error
        return cls(images)

    def __getitem__(self, sprite: str) -> NDArray[np.uint8]:
        return self._images[sprite]

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    # Identity, not contents: packs are keys of the caches that the drawing keeps.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def art_folder() -> Path:
    """Where artwork packages are installed and looked for: DYNREFER_ART_CACHE, else a folder in the user's cache.

    `make art` and `dynrefer evaluate` both call this.
    """
    chosen = os.environ.get(ART_FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "dynrefer" / "art"


def install(world: World, cache: Path) -> None:
    """npm-install the pinned packages of every style into `cache`.

    Raises FileNotFoundError without npm, CalledProcessError where npm fails.
    """
    cache.mkdir(parents=True, exist_ok=True)
    packages = [f"{art.package}@{art.version}" for art in world.art]
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache), *packages], check=True)


@lru_cache(maxsize=16)
def _icon_set(cache: Path, package: str) -> dict[str, Any]:
    path = cache / "node_modules" / package / "icons.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def render(world: World, cache: Path, sprite: str) -> NDArray[np.uint8]:
    """Draw one icon: (h, w, 4) uint8 RGBA, cropped to its alpha. Raises KeyError if it is unknown, OSError if its
    package is not installed in `cache`."""
    import resvg_py  # of the train extra: users of the pack need no renderer

    style, icon = sprite.split("/")
    package = next(art.package for art in world.art if art.style == style)
    icons = _icon_set(cache, package)
    entry = icons["icons"][icon]
    left, top, width, height = (
        entry.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{entry["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * SPRITE_SIDE))
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    drawn = drawn.crop(alpha_box(drawn))
    drawn.thumbnail((SPRITE_SIDE, SPRITE_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(drawn.crop(alpha_box(drawn)))


def alpha_box(image: Image.Image) -> tuple[int, int, int, int]:
    """The tight box of an RGBA image's visible part, xyxy pixels; the whole image where nothing is visible."""
    visible = image.getchannel("A").point(_EDGE_TABLE)
    return visible.getbbox() or (0, 0, *image.size)


_EDGE_TABLE = [255 * (value >= _EDGE) for value in range(256)]


def write_pack(world: World, cache: Path, path: Path) -> str:
    """Render every shipped sprite of `world` into a zip of WebP files; returns the file's SHA-256 in hex."""
    sprites = sorted(sprite for category in world.categories for sprite in category.sprites)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for sprite in sprites:
            buffer = io.BytesIO()
            Image.fromarray(render(world, cache, sprite)).save(buffer, "WEBP", quality=80, method=6)
            archive.writestr(zipfile.ZipInfo(f"{sprite}.webp"), buffer.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unseen_style_packages(world: World) -> tuple[str, ...]:
    """The npm packages of the evaluation-only style."""
    return tuple(art.package for art in world.art if not art.shipped)


def unseen_style_sprites(world: World, cache: Path) -> SpritePack | None:
    """The sprites of the evaluation-only style, drawn from `cache`; None where that style is not installed there."""
    packages = unseen_style_packages(world)
    if any(not (cache / "node_modules" / package / "icons.json").is_file() for package in packages):
        return None
    return SpritePack({s: render(world, cache, s) for c in world.categories for s in c.unseen_sprites})


def main(arguments: Iterable[str] | None = None) -> None:
    """The command; the head of this file names its two actions."""
    parser = argparse.ArgumentParser(description="Install or render the icon artwork.")
    parser.add_argument("action", choices=["install", "pack"])
    parser.add_argument(
        "--cache",
        type=Path,
        default=art_folder(),
        help=f"artwork folder [default: {ART_FOLDER_VARIABLE}, now %(default)s]",
    )
    options = parser.parse_args(None if arguments is None else list(arguments))
    world = World.load()
    if options.action == "install":
        install(world, options.cache)
        print(f"artwork installed in {options.cache}")
    else:
        print(write_pack(world, options.cache, PACK_FILE))


if __name__ == "__main__":
    main()

"""The command line of `dynrefer annotate-data`; what it does is in `annotate.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from dynrefer.model.errors import ConfigError

ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif", ".tif", ".tiff"))


def annotate_command(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder with images, looked through at all depths.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; a run that was stopped goes on there.")],
    model: Annotated[str, typer.Option("--model", help="Name or directory of the model.")] = "embedded",
    finder: Annotated[str, typer.Option(help="embedded, or a directory with a finder of transformers.")] = "embedded",
    least: Annotated[float, typer.Option(min=0, max=1, help="Least probability of a region and of its name.")] = 0.5,
    mirrored: Annotated[
        bool, typer.Option("--mirrored/--no-mirrored", help="Keep what is found in the mirrored image too.")
    ] = True,
    max_regions: Annotated[int, typer.Option("--max-regions", min=1, help="Of an image.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Label a folder of images with what the finder finds and the describer says: training data, filtered."""
    if not images.is_dir():
        raise ConfigError(f"{str(images)!r} is no folder; give one with images.")
    files = sorted(each for each in images.rglob("*") if each.suffix.lower() in ENDINGS and each.is_file())
    if not files:
        raise ConfigError(f"{str(images)!r} holds no images: {', '.join(sorted(ENDINGS))}.")
    out.mkdir(parents=True, exist_ok=True)
    from dynrefer.model import DynRefer
    from dynrefer.workbench.annotate import Filters, annotate

    loaded = DynRefer.load(model, device=device, finder=finder)
    if loaded.finding is None:
        raise ConfigError("a finder is needed: give --finder DIR, or a model that has one.")
    counts = annotate(loaded, files, images, out, Filters(least, mirrored), max_regions)
    print(json.dumps(counts, indent=2))

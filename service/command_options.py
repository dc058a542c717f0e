"""Arguments and options that several commands about an image have."""

from pathlib import Path
from typing import Annotated

import typer

ImageFile = Annotated[Path, typer.Argument(metavar="IMAGE", help="JPEG, PNG, WebP, AVIF, TIFF, BMP or GIF; any size.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the drawing if there is one.")]
# Where the default is said by the command, which refuses what is given beside --server.
SomeModel = Annotated[str | None, typer.Option("--model", help="Name or directory of the model. [default: embedded]")]
SomeDevice = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N. [default: auto]")]
Segmenter = Annotated[
    str | None,
    typer.Option(
        help="What finds the object of the points: embedded, or a directory with a SAM 2. [default: embedded]"
    ),
]

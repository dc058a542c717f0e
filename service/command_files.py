"""What commands about one image share: reading it, writing a drawing, and saying in one line what cannot be done."""

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dynrefer.model.errors import ImageError
from dynrefer.model.types import ALL_TASKS, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PilImage

EXIT_USAGE = 2  # exit code: an argument, a setting or a file cannot be used


def fail(sentence: str, code: int = EXIT_USAGE) -> NoReturn:
    """End the command with one line on standard error."""
    with contextlib.suppress(OSError):  # standard error may be unwritable too: then the exit code alone tells it
        print(f"dynrefer: {sentence}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def reason(error: OSError) -> str:
    """Why the operating system refused, in its words but without error numbers."""
    return "unknown address" if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0).lower()


def read_tasks(names: list[str] | None) -> tuple[Task, ...] | None:
    """The tasks of these names; None where none is given."""
    if not names:
        return None
    for name in names:
        if name not in ALL_TASKS:
            fail(f"--task {name} is unknown; the tasks are {', '.join(ALL_TASKS)}.")
    return tuple(dict.fromkeys(Task(name) for name in names))


def read_image(path: Path) -> "NDArray[np.uint8]":
    """The upright image, (H, W, 3) uint8 RGB, read as the service reads it: the same formats and errors.

    Without its limits: whoever names a file here trusts it.
    """
    from PIL import Image

    from dynrefer.model import decode_image

    try:
        data = path.read_bytes()
    except OSError as error:
        fail(f"cannot read {path}: {reason(error)}.")
    Image.MAX_IMAGE_PIXELS = None  # of this process, which ends with the command
    try:
        return decode_image(data, None).pixels
    except ImageError as error:
        fail(f"{path}: {error}")


def refuse_unwritable(path: Path, image: Path, model: str, overwrite: bool) -> None:
    """Called before the model is loaded: a command fails early or not at all."""
    from PIL import Image

    from dynrefer.model.outputs import check_outputs

    if path.suffix.lower() not in Image.registered_extensions():
        fail(f"cannot write {path}: the ending must be that of an image format, such as .png.")
    target = path if path.exists() else path.parent
    if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
        fail(f"cannot write {path}: no such folder, or no permission to write there.")
    check_outputs([("--draw", path)], [image, Path(model)], overwrite=overwrite)


def save_image(image: "PilImage", path: Path) -> None:
    """Write a drawing. Lossy formats keep the edges of letters clean at a higher quality than Pillow's default."""
    try:
        image.save(path, quality=82)
    except OSError as error:
        fail(f"cannot write {path}: {reason(error) if error.errno else 'not in this format'}.")

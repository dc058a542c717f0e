"""What a start on a GPU waits for besides Python: begun early, so that it goes on while modules are imported.

No torch at import.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

WEIGHTS = "*.safetensors"


def begin_start(model: str, device: str, initialise: Callable[[str], None] | None = None) -> threading.Thread:
    """Have the system read the weights and the driver initialise the device, in a thread; join it before the device is
    used.

    model, device: as in `DynRefer.load`. initialise: called with the device's name; by default torch's first use of it.
    What fails here is left out: loading meets it again, and says so.
    """
    begun = threading.Thread(target=_begin, args=(model, device, initialise or _initialise), daemon=True)
    begun.start()
    return begun


def _begin(model: str, device: str, initialise: Callable[[str], None]) -> None:
    with contextlib.suppress(Exception):
        read_ahead(Path(model))
    if device != "cpu":
        with contextlib.suppress(Exception):
            initialise(device)


def read_ahead(directory: Path) -> int:
    """Ask the system to read the weights in a directory; it does so by itself. Returns how many bytes they are."""
    size = 0
    for path in sorted(directory.glob(WEIGHTS)):
        size += path.stat().st_size
        if hasattr(os, "posix_fadvise"):
            file = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(file)
    return size


def _initialise(device: str) -> None:
    """The first allocation makes the context, which takes a second or more; the first product loads cuBLAS."""
    import torch

    if torch.cuda.is_available():
        some = torch.ones((16, 16), device="cuda" if device == "auto" else device, dtype=torch.bfloat16)
        torch.cuda.synchronize((some @ some).device)

"""Giving the memory of a model back that nobody uses any more, while the process goes on. No torch at import."""

import ctypes
import gc
import sys


def release_memory() -> None:
    """Let go of what nothing refers to, and give it back to the system and the device.

    A loaded model's objects are kept from garbage collection (`gc.freeze`), and some refer to each other: so they are
    thawed, searched once, which holds all threads for about a third of a second, and frozen again. CPU work.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        # glibc keeps what was freed in pieces; other C libraries have no such function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

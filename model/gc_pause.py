"""Pausing Python's garbage collector while torch is imported and a model is loaded. No torch at import."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """No garbage collection inside the `with` block.

    Importing torch and loading a model create nearly a million objects and drop few: collection would take a fifth of
    the import's time, and half of a small model's loading.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

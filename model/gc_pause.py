"""Python's garbage collector, while it would only be in the way. No torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Importing torch and loading a model make most of a million objects, and drop few: looking for garbage among them
    all the while takes a fifth of an import's time, and half of a small model's loading."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

"""Everything that knows HTTP. It sees the model through its public face only.

Importing this package, or any module in it, loads no torch, starts no thread and changes no environment variable.
"""

import os


def set_thread_environment() -> None:
    """Choose how the threads of torch and NumPy wait, unless the user's environment says so already.

    OpenMP and OpenBLAS read these variables once, when they are loaded: a process that serves calls this before it
    imports NumPy. The `dynrefer` command does.
    """
    # A waiting OpenMP thread spins for some 30 microseconds, then sleeps: with one that sleeps at once the embedded
    # model takes 1.6 times as long on idle cores, and one that spins without end starves whoever shares its core.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # The many small NumPy products of the perceptual hashes gain nothing from threads, which get in torch's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""Everything that knows HTTP. It sees the model through its public face only.

Importing this package, or any module in it, loads no torch, starts no thread and changes no environment variable.
"""

import os
import tempfile


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


def set_cache_environment() -> None:
    """Name a folder for the kernels that torch compiles, where the system has no temporary one and the user names none.

    Importing torch fails otherwise, for it makes up the folder's name from the temporary one. Nothing here compiles, so
    nothing is ever written there: any folder that exists will do. To be called before torch is imported.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath(os.sep))

"""What torch needs of the environment when it is imported. No torch at import."""

import os
import tempfile


def set_cache_environment() -> None:
    """Name a folder for the kernels that torch compiles, where the system has no temporary one and the user names none.

    Importing torch fails otherwise, for it makes up the folder's name from the temporary one. Nothing here compiles, so
    nothing is ever written there: any folder that exists will do. To be called before torch is imported.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.abspath(os.sep))

"""How much shared memory the objects of a local cluster may take."""

import os

from dynrefer.service.settings import SettingsError

SHARED_MEMORY = "/dev/shm"
MIN_BYTES = 75 * 1024 * 1024  # Ray's own least
MAX_DEFAULT_BYTES = 2 * 1024**3
SHARE = 4  # of what is free, and of the machine's or the container's memory: one part in so many


def object_store_bytes(asked: int | None, memory_bytes: int) -> int:
    """Bytes for the object store: what is asked, or a share of /dev/shm's free bytes and of `memory_bytes`, up to 2 GB.

    Raises SettingsError where that does not fit; Ray would take a disk instead, or fail with the first large object.
    """
    if asked is not None and asked < MIN_BYTES:
        raise SettingsError(f"object_store_bytes {asked} is too small: Ray needs at least {MIN_BYTES}.")
    if asked is not None and asked > memory_bytes:
        raise SettingsError(
            f"object_store_bytes {asked} is more than the memory that there is, {memory_bytes}; lower it."
        )
    free = free_bytes()
    share = min(MAX_DEFAULT_BYTES, memory_bytes // SHARE)
    wanted = max(MIN_BYTES, share if free is None else min(share, free // SHARE)) if asked is None else asked
    if free is not None and wanted > free:
        raise SettingsError(
            f"object_store_bytes: /dev/shm has {free} bytes free, and Ray needs {wanted} for its objects; start the "
            f"container with a larger one (--shm-size={_shm_size(wanted)}m), or free some"
            + (f", or lower it with --object-store-bytes (at least {MIN_BYTES})." if wanted > MIN_BYTES else ".")
        )
    return wanted


def free_bytes() -> int | None:
    """What shared memory has free; None on a system without /dev/shm, where Ray takes files."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _shm_size(wanted: int) -> int:
    """MB of /dev/shm with room for others beside the objects: doubled, and a power of two as one writes it."""
    return max(256, 1 << (wanted * 2 // 1024**2).bit_length())

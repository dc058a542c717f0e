import pytest

from dynrefer.service.scale.ray import object_store
from dynrefer.service.scale.ray.object_store import MAX_DEFAULT_BYTES, MIN_BYTES, object_store_bytes
from dynrefer.service.settings import SettingsError

MB, GB = 1024**2, 1024**3


@pytest.mark.parametrize(
    ("asked", "free", "memory", "bytes_"),
    [
        (None, 64 * GB, 128 * GB, MAX_DEFAULT_BYTES),
        (None, 2 * GB, 128 * GB, GB // 2),  # a share of what is free
        (None, 64 * GB, 2 * GB, GB // 2),  # and of the container's memory
        (None, 100 * MB, 128 * GB, MIN_BYTES),  # the least that Ray takes, where that fits
        (None, None, 2 * GB, GB // 2),  # a system without /dev/shm
        (100 * MB, 100 * MB, 128 * GB, 100 * MB),
        (100 * MB, None, 128 * GB, 100 * MB),
    ],
)
def test_a_share_or_what_is_asked(
    asked: int | None, free: int | None, memory: int, bytes_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "free_bytes", lambda: free)
    assert object_store_bytes(asked, memory) == bytes_


def test_dockers_default_is_too_small_and_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "free_bytes", lambda: 64 * MB)
    with pytest.raises(SettingsError, match=f"67108864 bytes free, and Ray needs {MIN_BYTES} .*--shm-size=256m"):
        object_store_bytes(None, 8 * GB)
    with pytest.raises(SettingsError, match="--shm-size=2048m.*--object-store-bytes"):
        object_store_bytes(900 * MB, 8 * GB)

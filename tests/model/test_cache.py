"""The bounded cache and its keys."""

import numpy as np
import pytest

from dynrefer.model.cache import ByteCache, CacheStats, region_digest, view_digest


def test_the_least_recently_used_entry_is_evicted() -> None:
    cache = ByteCache[str](10)
    for key in (b"a", b"b", b"c"):
        cache.put(key, key.decode(), 4)
    assert cache.get(b"a") is None and cache.get(b"b") == "b"
    cache.put(b"d", "d", 4)
    assert cache.get(b"c") is None and cache.get(b"b") == "b" and cache.get(b"d") == "d"
    assert cache.stats == CacheStats(hits=3, misses=2, entries=2, bytes=8)


def test_a_value_takes_the_place_of_its_predecessor() -> None:
    cache = ByteCache[str](10)
    cache.put(b"a", "old", 6)
    cache.put(b"a", "new", 8)
    assert cache.get(b"a") == "new" and cache.stats.bytes == 8 and cache.stats.entries == 1


def test_an_entry_larger_than_the_cache_is_not_kept() -> None:
    cache = ByteCache[str](10)
    cache.put(b"a", "a", 4)
    cache.put(b"b", "b", 11)
    assert cache.get(b"a") == "a" and cache.get(b"b") is None


def test_never_above_its_bound() -> None:
    rng, cache = np.random.default_rng(0), ByteCache[int](1000)
    for _ in range(500):
        number = int(rng.integers(0, 60))
        cache.put(bytes([number]), number, int(rng.integers(1, 400)))
        assert cache.stats.bytes <= 1000
        assert cache.stats.bytes == sum(size for _, size in cache._held.values())


def test_a_cleared_cache_is_empty_and_usable() -> None:
    cache = ByteCache[str](10)
    cache.put(b"a", "a", 6)
    cache.clear()
    assert cache.get(b"a") is None and cache.stats == CacheStats(misses=1)
    cache.put(b"b", "b", 10)
    assert cache.get(b"b") == "b" and cache.stats.bytes == 10


def test_off_by_a_bound_of_nothing() -> None:
    cache = ByteCache[str](0)
    cache.put(b"a", "a", 0)
    assert cache.get(b"a") is None and cache.stats == CacheStats()


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="0 bytes or more"):
        ByteCache[str](-1)


def test_keys_tell_all_that_matters_apart() -> None:
    view = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    other = view.copy()
    other[2, 1, 1] += 1
    assert view_digest(view) == view_digest(view.copy()) != view_digest(other)
    assert view_digest(np.asfortranarray(view)) == view_digest(view)
    a, b = view_digest(view), view_digest(other)
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2]], dtype=np.float32)
    keys = [
        region_digest("one", [a, b], boxes),
        region_digest("two", [a, b], boxes),
        region_digest("one", [b, a], boxes),
        region_digest("one", [a, b], boxes + 1),
    ]
    assert len(set(keys)) == 4 and region_digest("one", [a, b], boxes.copy()) == keys[0]

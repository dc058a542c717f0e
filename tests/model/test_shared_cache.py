"""Representations shared by models of one process as by several processes, in a store of memory; their form in it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from dynrefer.model.batch import RegionOutput
from dynrefer.model.cache import CacheStats
from dynrefer.model.errors import DeviceMemoryError
from dynrefer.model.images import upright_pixels
from dynrefer.model.loading import LoadedModel, load_model
from dynrefer.model.network_fingerprint import fingerprint
from dynrefer.model.predictor import DynRefer
from dynrefer.model.preparation import PreparedRegion
from dynrefer.model.shared_cache import SharedRepresentations, decode, encode
from dynrefer.model.types import RegionQuery, Task
from tests.model.test_batch import BOXES, SCENE, Counted

SHAPE = (3, 4)
NUMBERS = np.arange(12, dtype=np.float32).reshape(SHAPE) / 7 - 1


class MemoryStore:
    """A `SharedStore`. asked: the keys of every look-up. answers: whether it has anything."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.asked: list[list[bytes]] = []
        self.answers = True

    def get_many(self, keys: Sequence[bytes], size: int) -> list[bytes | None]:
        self.asked.append(list(keys))
        assert all(len(value) == size for value in self.values.values() if value.startswith(b"DRR"))
        return [self.values.get(key) if self.answers else None for key in keys]

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        self.values.update(values)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def regions(loaded: LoadedModel) -> list[PreparedRegion]:
    """Three with views chosen by the image, one with views for each task, one asked for twice."""
    queries = [RegionQuery(box) for box in BOXES] + [RegionQuery(BOXES[0], tuple(Task)), RegionQuery(BOXES[1])]
    return DynRefer(loaded).prepare(upright_pixels(SCENE), queries)


@pytest.fixture(scope="module")
def expected(loaded: LoadedModel, regions: list[PreparedRegion]) -> list[Any]:
    """The answers without anything shared."""
    return answers(loaded, regions, DynRefer(loaded).run(regions))


@pytest.fixture
def counted(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(loaded, monkeypatch)


def answers(loaded: LoadedModel, regions: Sequence[PreparedRegion], found: Sequence[RegionOutput]) -> list[Any]:
    """The records, whose numbers are not rounded, without times."""
    model = DynRefer(loaded)
    return [model.finish(region, output).results for region, output in zip(regions, found, strict=True)]


@pytest.mark.parametrize("cache_bytes", [0, 64 << 20])
def test_what_another_found_is_to_the_last_bit_what_is_computed(
    loaded: LoadedModel,
    regions: list[PreparedRegion],
    expected: list[Any],
    counted: Counted,
    cache_bytes: int,
) -> None:
    store = MemoryStore()
    first, second = (DynRefer(loaded, cache_bytes=cache_bytes, shared_cache=store) for _ in range(2))
    counted.regions = 0
    assert answers(loaded, regions, first.run(regions)) == expected
    computed = counted.regions
    assert computed == len(store.values) > 3
    assert answers(loaded, regions, second.run(regions)) == expected
    assert counted.regions == computed  # nothing more
    assert first.cache_stats["shared"] == CacheStats(misses=computed)
    assert second.cache_stats["shared"] == CacheStats(hits=computed)
    assert second.cache_stats["regions"].entries == (computed if cache_bytes else 0)
    asked = len(store.asked)
    assert answers(loaded, regions, second.run(regions)) == expected
    assert len(store.asked) == asked + (0 if cache_bytes else 1)  # once per batch, and not for what is cached here


def test_a_batch_of_found_and_new_regions(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[Any], counted: Counted
) -> None:
    store = MemoryStore()
    DynRefer(loaded, shared_cache=store).run(regions[1:2])
    model = DynRefer(loaded, shared_cache=store)
    counted.regions = 0
    assert answers(loaded, regions, model.run(regions)) == expected
    assert model.cache_stats["shared"].hits == 1 and counted.regions == len(store.values) - 1


def test_regions_that_join_at_any_time(loaded: LoadedModel, regions: list[PreparedRegion], counted: Counted) -> None:
    store, results = MemoryStore(), []
    for _ in range(2):
        batch = DynRefer(loaded, batching="continuous", shared_cache=store).continuous()
        assert batch is not None
        counted.regions, found = 0, dict[int, RegionOutput]()
        tickets = batch.admit(regions)
        while len(found) < len(tickets):
            found |= dict(batch.advance())
        results.append(answers(loaded, regions, [found[ticket] for ticket in tickets]))
    assert counted.regions == 0 and results[0] == results[1]


def spoilt(value: bytes) -> dict[str, bytes]:
    """A value of `encode`, in forms that are none."""
    numbers = np.frombuffer(value, "<f4", offset=12).copy()
    numbers[5] = np.nan
    return {
        "empty": b"",
        "cut": value[:-1],
        "too long": value + b"\0",
        "another form": value[:3] + bytes([value[3] + 1]) + value[4:],
        "another shape": encode(np.frombuffer(value, "<f4", offset=12).reshape(-1, 1)),
        "not ours": b"x" * len(value),
        "not finite": value[:12] + numbers.tobytes(),
    }


@pytest.mark.parametrize("flaw", list(spoilt(encode(NUMBERS))))
def test_what_is_none_of_ours_is_a_miss(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[Any], flaw: str
) -> None:
    store = MemoryStore()
    DynRefer(loaded, shared_cache=store).run(regions[:2])
    good = dict(store.values)
    store.values = {key: spoilt(value)[flaw] for key, value in good.items()}
    store.get_many = lambda keys, size: [store.values[key] for key in keys]  # type: ignore[method-assign]
    model = DynRefer(loaded, shared_cache=store)
    assert answers(loaded, regions[:2], model.run(regions[:2])) == expected[:2]
    assert model.cache_stats["shared"] == CacheStats(misses=2)
    assert store.values == good  # written again


def test_every_number_keeps_its_bits() -> None:
    odd = np.array([[0.0, -0.0, 1e-45, np.float32(0.1), -3.4e38, 1.0000001]], np.float32)
    found = decode(encode(odd), (1, 6))
    assert found is not None and found.tobytes() == odd.tobytes()
    assert decode(encode(odd.T), (1, 6)) is None
    assert decode(encode(np.asfortranarray(NUMBERS)), SHAPE) is not None
    np.testing.assert_array_equal(decode(encode(np.asfortranarray(NUMBERS)), SHAPE), NUMBERS)  # type: ignore[arg-type]


def test_another_network_finds_nothing() -> None:
    store = MemoryStore()
    one, other, larger = (
        SharedRepresentations(store, name, shape) for name, shape in (("a:1", SHAPE), ("a:2", SHAPE), ("a:3", (4, 3)))
    )
    one.add({b"digest": NUMBERS})
    assert store.values.keys() == {b"dynrefer:1:a:1:" + b"digest".hex().encode()}
    assert one.find([b"digest"]).keys() == {b"digest"} and not other.find([b"digest"]) and not larger.find([b"digest"])


def test_what_is_not_finite_is_not_shared(
    loaded: LoadedModel, regions: list[PreparedRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    model, represent = DynRefer(loaded, shared_cache=store), loaded.network.represent_in_parts

    def faulty(*arguments: Any) -> torch.Tensor:
        found = represent(*arguments)
        found[0, 0, 0] = torch.inf
        return found

    monkeypatch.setattr(loaded.network, "represent_in_parts", faulty)
    model.run(regions[:3])
    assert len(store.values) == 2


def test_a_device_without_memory_is_not_hidden_by_what_others_found(
    loaded: LoadedModel, regions: list[PreparedRegion], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    model = DynRefer(loaded, shared_cache=store)
    model.run(regions[:1])

    def full(*arguments: object) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(loaded.network, "represent_in_parts", full)
        with pytest.raises(DeviceMemoryError):
            model.run(regions[1:2])
        with pytest.raises(DeviceMemoryError):
            model.run(regions[:1])  # although it could be found
    model.run(regions[:1])
    assert len(store.asked) == 2
    model.run(regions[:1])
    assert model.cache_stats["shared"].hits == 1  # found again from then on


def test_a_store_that_has_nothing_costs_no_answer(
    loaded: LoadedModel, regions: list[PreparedRegion], expected: list[Any]
) -> None:
    store = MemoryStore()
    store.answers = False
    model = DynRefer(loaded, shared_cache=store)
    for _ in range(2):
        assert answers(loaded, regions, model.run(regions)) == expected


def test_the_parts_of_a_batch_tell_of_the_look_up(loaded: LoadedModel, regions: list[PreparedRegion]) -> None:
    found = DynRefer(loaded, shared_cache=MemoryStore()).run(regions[:1])
    assert set(found[0].timings_ms) == {"vision", "heads", "caption"}


def test_a_network_has_one_fingerprint_and_every_other_another(loaded: LoadedModel) -> None:
    name = fingerprint(loaded)
    assert fingerprint(loaded) == name and name.startswith(loaded.network.config.revision + ":")
    kept = loaded.network.query_tokens.detach().clone()
    with torch.no_grad():
        loaded.network.query_tokens[0, -1, -1] += 1e-3  # one number of all, of which the revision knows nothing
    try:
        assert fingerprint(loaded) != name
    finally:
        with torch.no_grad():
            loaded.network.query_tokens.copy_(kept)
    torch.set_num_threads(2)
    try:
        assert fingerprint(loaded) != name
    finally:
        torch.set_num_threads(1)
    assert fingerprint(loaded) == name


NAME = """
import torch
torch.set_num_threads(1)
from dynrefer.model.loading import load_model
from dynrefer.model.network_fingerprint import fingerprint
print(fingerprint(load_model("embedded", device="cpu", dtype="float32")))
"""


@pytest.mark.slow
def test_another_process_has_the_same_and_another_processor_another(loaded: LoadedModel) -> None:
    """Where the processor has no vector instructions, the last bits are others."""

    def name_in(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", NAME], env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert name_in() == fingerprint(loaded)
    assert name_in(ATEN_CPU_CAPABILITY="default") != fingerprint(loaded)

"""How many GPUs replicas take, and what is said where they cannot have them."""

from typing import Any

import pytest

from dynrefer.service.scale.ray.gpus import fitting, flaw_of_gpus, gpus_of_each, lack_of_gpus
from dynrefer.service.settings import Settings, SettingsError, load_settings


def settings(**given: Any) -> Settings:
    return Settings(engine="ray", **given)


@pytest.mark.parametrize(
    ("cards", "each", "fit"),
    [
        (1, 0.5, 2),
        (1, 0.1, 10),
        (2, 0.3, 6),
        (1, 0.4, 2),
        (3, 0.7, 3),
        (4, 1.0, 4),
        (5, 2.0, 2),
        (1, 2.0, 0),
        (0, 0.5, 0),
    ],
)
def test_a_part_of_a_card_is_a_part_of_one_card(cards: int, each: float, fit: int) -> None:
    assert fitting(cards, each) == fit


@pytest.mark.parametrize(
    ("each", "device", "flaw"),
    [
        (1.5, "auto", "replica_gpus 1.5 cannot be had: a replica takes whole GPUs, or a part of one"),
        (0.00001, "auto", "replica_gpus 1e-05 is too small"),
        (0.0, "cuda", "replica_gpus 0 gives replicas no GPU, and device cuda is one"),
        (0.5, "cpu", "replica_gpus 0.5 gives GPUs that device cpu does not use"),
    ],
)
def test_a_part_that_cannot_be(each: float, device: str, flaw: str) -> None:
    assert flaw_of_gpus(each, device).startswith(flaw)
    with pytest.raises(SettingsError, match="replica_gpus"):
        load_settings({"engine": "ray", "replica_gpus": str(each), "device": device})


@pytest.mark.parametrize(
    ("each", "device"), [(None, "cuda"), (0.0, "auto"), (0.0, "cpu"), (0.3, "auto"), (2.0, "cuda")]
)
def test_a_part_that_can_be(each: float | None, device: str) -> None:
    assert flaw_of_gpus(each, device) == ""


@pytest.mark.parametrize(("flag", "value"), [("replicas", "0"), ("replicas", "1.5"), ("replica_gpus", "nan")])
def test_a_number_that_is_none_is_named_as_it_was_given(flag: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"--{flag.replace('_', '-')} '{value}' is invalid: input should be"):
        load_settings({"engine": "ray", flag: value})


def test_a_card_for_each_where_the_settings_do_not_say() -> None:
    assert [gpus_of_each(settings(), of_cluster) for of_cluster in (0.0, 1.0, 8.0)] == [0.0, 1.0, 1.0]
    assert gpus_of_each(settings(device="cpu"), 8.0) == 0.0
    assert gpus_of_each(settings(replica_gpus=0.25), 8.0) == 0.25


@pytest.mark.parametrize(
    ("given", "of_cluster", "lack"),
    [
        (
            {"replicas": 3},
            2,
            "replicas 3 with replica_gpus 1 need more GPUs than there are: the Ray cluster has 2; lower ",
        ),
        ({"replicas": 7, "replica_gpus": 0.3}, 2, "replicas 7 with replica_gpus 0.3 need more GPUs than there are"),
        ({"replicas": 2, "max_replicas": 5}, 4, "max_replicas 5 with replica_gpus 1 need more GPUs"),
        (
            {"replica_gpus": 2},
            1,
            "replicas 1 with replica_gpus 2 need more GPUs than there are: the Ray cluster has 1; use",
        ),
        (
            {"replica_gpus": 1},
            0,
            "replicas 1 with replica_gpus 1 need more GPUs than there are: the Ray cluster has none",
        ),
        ({"device": "cuda"}, 0, "device cuda needs a GPU, and the Ray cluster has none; use device cpu, or join a"),
    ],
)
def test_more_than_the_cluster_has(given: dict[str, Any], of_cluster: int, lack: str) -> None:
    assert lack_of_gpus(settings(**given), of_cluster).startswith(lack)


@pytest.mark.parametrize(
    ("given", "of_cluster"),
    [({"replicas": 9}, 0), ({"replicas": 6, "replica_gpus": 0.3}, 2), ({"replicas": 4}, 4), ({"device": "cpu"}, 4)],
)
def test_as_many_as_the_cluster_has(given: dict[str, Any], of_cluster: int) -> None:
    assert lack_of_gpus(settings(**given), of_cluster) == ""

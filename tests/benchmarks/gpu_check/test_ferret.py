"""The part of the check that times a Ferret-v2, tried on a CPU with the tiny one."""

from pathlib import Path

from benchmarks.ferret import counted, key_value_bytes, parameters
from benchmarks.gpu_check import ferret
from benchmarks.gpu_check.conditions import Conditions
from dynrefer.model.networks.converse.ferret.config import preset


def test_every_conversation_writes_all_its_tokens(tmp_path: Path) -> None:
    figures = list(ferret.measure(Conditions("cpu", "embedded", tmp_path)))
    assert [each.name for each in figures if each.ok] == [
        "1 conversation, later tokens",
        "4 conversations, later tokens",
        "16 conversations, later tokens",
    ]


def test_what_is_counted_follows_from_the_sizes() -> None:
    config = preset("tiny")
    assert key_value_bytes(config) == 2 * 2 * 2 * 16 * 2  # layers, keys and values, heads, channels, bytes
    low, high = (counted(preset("tiny", grids=grids), (112, 112)) for grids in ([], [[2, 2]]))
    assert (low["image_tokens"], high["image_tokens"]) == (16, 16 + 64)
    assert (low["grid"], high["grid"]) == ("none", "2x2")
    # Embedding and head of 384 x 64; two layers of q and o 64 x 64, k and v 64 x 32, three of 64 x 128, two norms; one.
    assert parameters(preset("tiny"))["language model"] == round((2 * 384 * 64 + 2 * (36_864 + 128) + 64) / 1e6, 1)

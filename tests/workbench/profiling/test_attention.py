"""`dynrefer bench attention`: it times the network's own calls, with kernels that compute the same."""

import json
from dataclasses import astuple

import pytest
import torch
from torch.nn import functional as F

from dynrefer.workbench.profiling.attention import (
    EAGER,
    KERNELS,
    META,
    PICKED,
    Call,
    _eager,
    attention_calls,
    measure_attention,
)
from dynrefer.workbench.profiling.workload import Workload, random_config, random_network

REGIONS = 2


@pytest.fixture(scope="module")
def calls() -> dict[str, dict[Call, int]]:
    network = random_network(random_config("medium", Workload()), META, torch.float32)
    return attention_calls(network, Workload(), REGIONS)


def test_every_layer_with_attention_is_recorded_once(calls: dict[str, dict[Call, int]]) -> None:
    config = random_config("medium", Workload())
    vision, language = config.vision_config, config.language_config
    assert sum(calls["vision"].values()) == vision.num_hidden_layers
    assert sum(calls["language encoder"].values()) == language.num_layers
    assert sum(calls["a caption's last token"].values()) == 2 * language.num_decoder_layers
    (call,) = calls["vision"]
    assert call.query.shape[:2] == (REGIONS * config.num_views, vision.num_attention_heads)
    assert {own.key.shape[2] for own in calls["a caption's last token"]} > {2 * 20}  # beams x tokens


def test_eager_attention_computes_what_torch_does(calls: dict[str, dict[Call, int]]) -> None:
    cpu = torch.device("cpu")
    for call in (each for part in calls.values() for each in part):
        query, key, value = (each.random(cpu) for each in (call.query, call.key, call.value))
        assert query.stride() == call.query.stride
        mask = None if call.mask is None else call.mask.random(cpu)
        theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=call.scale)
        assert torch.allclose(_eager(query, key, value, mask, call.scale), theirs, atol=1e-5), astuple(call)


def test_the_report_has_a_time_for_every_kernel_that_the_device_has() -> None:
    torch.set_num_threads(1)
    report, table = measure_attention("embedded", 1, torch.float32, torch.device("cpu"), 1)
    assert json.loads(json.dumps(report)) == report
    assert len(table.splitlines()) == 4 + len(report["rows"]) > 4
    for row in report["rows"]:
        assert {PICKED, "math", EAGER} <= set(row["ms"]) <= {PICKED, EAGER, *KERNELS}
        assert all(taken > 0 for taken in row["ms"].values())
        assert "cudnn" not in row["ms"]

"""The comparisons can fail: if one weight of any module is changed by 0.1 %, that module's comparison fails."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.parity import stages
from tests.parity.conftest import Goldens, Views, relative_error
from tests.parity.stages import LOGITS, TIGHT

OF_THE_TOWER = (
    "embeddings.patch_embedding.weight",
    "encoder.layers.0.self_attn.qkv.weight",
    "encoder.layers.0.mlp.fc1.weight",
    "post_layernorm.weight",
)
CASES = [
    *((stages.region, TIGHT, f"align.{name}.weight") for name in ("pair", "offset_mask", "value", "output")),
    *((stages.region, TIGHT, f"fusion.{name}.weight") for name in ("reduce", "project")),
    (stages.region, TIGHT, "query_tokens"),
    (stages.region, TIGHT, "qformer.layernorm.weight"),
    (stages.region, TIGHT, "qformer.encoder.layer.0.crossattention.output.LayerNorm.weight"),
    *(
        (stages.recognition, LOGITS, f"{decoder}.{name}.weight")
        for decoder in ("tag_decoder", "region_text_decoder")
        for name in ("region_projection", "logit")
    ),
    *(
        (stages.language, LOGITS, f"language.{name}")
        for name in (
            "projection.weight",
            "control_memory",
            "model.shared.weight",
            "model.encoder.final_layer_norm.weight",
            "model.decoder.final_layer_norm.weight",
            "model.lm_head.weight",
        )
    ),
    *(
        (stages.text, TIGHT, f"text.{name}.weight")
        for name in (
            "text_model.embeddings.token_embedding",
            "text_model.final_layer_norm",
            "text_projection",
        )
    ),
]


@contextmanager
def changed(network: DynReferModel, name: str) -> Iterator[None]:
    """Every second number of one weight larger by 0.1 % for a while; a norm would undo a change of all alike."""
    weight = network.get_parameter(name)
    before = weight.clone()
    with torch.no_grad():
        weight.view(-1)[::2] *= 1.001
        yield
        weight.copy_(before)


def largest_error(stage: stages.Stage, network: DynReferModel, recorded: Goldens) -> float:
    """Over everything that the stage's comparison looks at."""
    theirs = {**recorded.intermediates, **recorded.embeddings}
    return max(relative_error(ours, theirs[name]) for name, ours in stage(network, recorded).items())


@pytest.mark.parametrize("name", OF_THE_TOWER)
def test_changed_weight_of_the_tower_is_noticed(name: str, network: DynReferModel, views: Views) -> None:
    before = relative_error(stages.vision(network, views), views.tokens)
    with changed(network, f"vision.tower.{name}"):
        after = relative_error(stages.vision(network, views), views.tokens)
    assert before <= TIGHT < after
    print(f"\n{name}: error {before:.1e} becomes {after:.1e}, {TIGHT:.0e} allowed")


@pytest.mark.parametrize(("stage", "tolerance", "name"), CASES, ids=[name for *_, name in CASES])
def test_changed_weight_is_noticed(
    stage: stages.Stage, tolerance: float, name: str, network: DynReferModel, recorded: Goldens
) -> None:
    before = largest_error(stage, network, recorded)
    with changed(network, name):
        after = largest_error(stage, network, recorded)
    assert before <= tolerance < after
    print(f"\n{name}: error {before:.1e} becomes {after:.1e}, {tolerance:.0e} allowed")

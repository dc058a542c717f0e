"""intermediates.safetensors: every stage of the network against the official one."""

import pytest
import torch

from dynrefer.model.networks.dynrefer.model import DynReferModel
from tests.goldens_reader import features_of
from tests.parity import stages
from tests.parity.conftest import Comparison, Goldens, Views
from tests.parity.stages import LOGITS, TIGHT

INPUTS = {"boxes", "vit_ln_vision"}  # compared in test_views and test_vision_tower where the photographs are


@pytest.mark.parametrize(
    ("stage", "tolerance"),
    [
        (stages.region, TIGHT),
        (stages.recognition, LOGITS),
        (stages.language, LOGITS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_stage(
    stage: stages.Stage, tolerance: float, network: DynReferModel, recorded: Goldens, compare: Comparison
) -> None:
    for name, ours in stage(network, recorded).items():
        compare.tensor(name, ours, recorded.intermediates[name], tolerance)


def test_vision_tower(network: DynReferModel, views: Views, compare: Comparison) -> None:
    compare.tensor("vit_ln_vision", stages.vision(network, views), views.tokens, TIGHT)


def test_every_recorded_tensor_is_compared(network: DynReferModel, recorded: Goldens) -> None:
    compared = [stage(network, recorded) for stage in stages.STAGES]
    assert {name for outputs in compared for name in outputs} | INPUTS == set(recorded.intermediates)


def test_control_words_become_the_recorded_ids(recorded: Goldens) -> None:
    ids, mask = recorded.controls(recorded.generation["runs"]["A_brief"]["control_words"])
    assert torch.equal(ids, recorded.intermediates["control_input_ids"])
    assert torch.equal(mask, recorded.intermediates["control_attention_mask"])


def test_forward_gives_the_same_as_its_parts(
    network: DynReferModel, recorded: Goldens, views: Views, compare: Comparison
) -> None:
    """From images; the tests above compare the parts, from the tower's expected tokens on."""
    texts = recorded.embeddings
    output = network(views.images, views.boxes, texts["clip_embeds"], texts["ov_embeds"])
    region = network.represent(features_of(views.tokens), views.boxes)
    compare.tensor("representation", output.representation, region, TIGHT)
    compare.tensor("tags", output.tag_logits, network.tag_decoder(region, texts["clip_embeds"]), LOGITS)
    categories = network.region_text_decoder(region, texts["ov_embeds"])
    compare.tensor("categories", output.region_text_logits, categories, LOGITS)


def test_tags_above_the_threshold_are_the_recorded_ones(network: DynReferModel, recorded: Goldens) -> None:
    scores = stages.recognition(network, recorded)["tag_logits"].sigmoid()
    above = scores > recorded.generation["tag_thr"]
    names = recorded.texts["tag_list"]
    found = [[names[int(i)] for i in row.nonzero()] for row in above]
    assert found == recorded.generation["tags"]
    margin = (scores - recorded.generation["tag_thr"]).abs().min()
    print(f"\ntags: identical; the closest score is {margin:.1e} from the threshold")

"""The way of a batch through a device that is not the CPU, on torch's device without data: it refuses a tensor that was
made on the CPU by mistake, as a GPU would, and takes the paths that a GPU takes."""

import pytest
import torch

from model.benchmark.workload import Workload, random_config, random_network
from model.network import beam_search
from model.network.beam_search import SearchSettings, SpecialTokens
from model.network.dynrefer import DynReferModel
from model.network.t5_steps import T5Steps

META, REGIONS, WORK = torch.device("meta"), 3, Workload()


@pytest.fixture(scope="module", params=["embedded", "medium"])
def network(request: pytest.FixtureRequest) -> DynReferModel:
    """A tower without a class token, and one with."""
    return random_network(random_config(request.param, WORK), META, torch.bfloat16)


def test_no_tensor_of_a_batch_is_made_elsewhere(network: DynReferModel) -> None:
    size, views = network.config.view_size, network.config.num_views
    images = torch.empty(REGIONS * views, 3, size, size, dtype=torch.uint8, device=META)
    with torch.inference_mode():
        features = network.encode_in_parts(images)
        region = network.represent_in_parts(features, torch.empty(REGIONS, views, 4, device=META))
        logits = []
        for decoder in (network.tag_decoder, network.region_text_decoder):
            texts = decoder.prepare(torch.empty(WORK.categories, decoder.text_projection.in_features, device=META))
            logits.append(decoder.score(region, texts))
    assert features.map.device == region.device == META
    assert region.dtype == torch.float32
    assert [each.shape for each in logits] == [(REGIONS, WORK.categories)] * 2
    assert {each.device for each in logits} == {META}


def test_no_tensor_of_a_step_of_the_search_is_made_elsewhere(network: DynReferModel) -> None:
    language, settings, special = network.language, SearchSettings(2, 4, 2, 1.0, 1.5), SpecialTokens(0, 0, 1)
    region = torch.empty(REGIONS, network.config.num_queries, network.config.qformer_config.hidden_size, device=META)
    ids = torch.empty(REGIONS, 6, dtype=torch.int64, device=META)
    with torch.inference_mode():
        embeddings, mask = language.prompt(region, ids, torch.ones_like(ids))
        steps = T5Steps(language.model, embeddings, mask, settings.num_beams, settings.max_new_tokens)
        beams = beam_search._start(REGIONS, settings, special, META)
        for step in range(settings.max_new_tokens):
            beam_search._advance(beams, steps, step, settings, special, last=step == 3)
    assert {value.device for value in vars(beams).values()} == {META}
    assert beams.tokens.shape == (REGIONS, 2, settings.max_new_tokens + 1)


def test_the_device_without_data_refuses_a_tensor_of_the_cpu(network: DynReferModel) -> None:
    """Or the tests above could not fail."""
    size, views = network.config.view_size, network.config.num_views
    features = network.encode_in_parts(torch.empty(views, 3, size, size, dtype=torch.uint8, device=META))
    with pytest.raises(RuntimeError, match="device"):
        network.represent_in_parts(features, torch.zeros(1, views, 4))
